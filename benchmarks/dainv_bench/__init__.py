"""Measures what data augmentation invariance costs; the harness behind ``dainv-bench``."""
