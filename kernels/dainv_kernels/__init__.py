"""The operator of dainv: Eq. 1 and Eq. 3 of the data augmentation invariance paper, by pairs and in closed form.

Example:
    >>> import torch
    >>> from dainv_kernels import Groups, invariance_loss, pairwise_mse, relu_invariance
    >>> features = torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0], [4.0, 2.0]])  # two views of each of two images
    >>> pairwise_mse(features).tolist()[0]  # Eq. 1
    [0.0, 2.0, 8.0, 10.0]
    >>> round(invariance_loss(features, Groups.consecutive(2, 2)).item(), 4)  # Eq. 3: 2, over the mean of six pairs
    0.3
    >>> activation, loss = relu_invariance(-features, Groups.consecutive(2, 2))
    >>> activation.sum().item(), loss.item()  # nothing is left of it, and a dead layer has no loss
    (0.0, 0.0)
"""

from dainv_kernels.backends import available_backends, backend_status
from dainv_kernels.groups import Groups
from dainv_kernels.operator import invariance_loss, pairwise_mse, relu_invariance

__all__ = ["Groups", "available_backends", "backend_status", "invariance_loss", "pairwise_mse", "relu_invariance"]
