"""From a run directory to figures and a report."""
