"""Representational geometry: distances between images (RDMs) and similarity between layers (linear CKA)."""

from dainv.geometry.cka import CKA, linear_cka
from dainv.geometry.rdm import RDMs, rdms

__all__ = ["CKA", "RDMs", "linear_cka", "rdms"]
