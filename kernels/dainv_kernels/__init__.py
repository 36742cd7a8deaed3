"""The operator of dainv: Eq. 1 and Eq. 3 of the data augmentation invariance paper, by pairs and in closed form."""

from dainv_kernels.backends import available_backends, backend_status
from dainv_kernels.groups import Groups
from dainv_kernels.operator import invariance_loss, pairwise_mse, relu_invariance

__all__ = ["Groups", "available_backends", "backend_status", "invariance_loss", "pairwise_mse", "relu_invariance"]
