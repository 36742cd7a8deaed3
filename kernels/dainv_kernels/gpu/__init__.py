"""What runs on a GPU, in Triton: the closed form, and Eq. 1 and Eq. 3 over explicit pairs."""

from dainv_kernels.gpu import closed_form, pairwise

__all__ = ["closed_form", "pairwise"]
