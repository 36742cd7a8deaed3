"""Data augmentation invariance (Hernández-García, König & Kietzmann 2019): train for it and measure it.

Eq. 1 and 3 are in ``dainv_kernels``, Eq. 4 in :mod:`dainv.objective`, Eq. 2 in :mod:`dainv.scores`, the augmentation
schemes in :mod:`dainv.augment`, All-CNN-C in :mod:`dainv.models.allcnn`.
"""

from dainv._version import __version__
from dainv.augment import augmentation
from dainv.errors import UserError
from dainv.models.allcnn import AllCNNC
from dainv.objective import InvarianceObjective, layer_weights
from dainv.scores import InvarianceScores, invariance_scores
from dainv_kernels import Groups, invariance_loss, pairwise_mse

__all__ = [
    "AllCNNC",
    "Groups",
    "InvarianceObjective",
    "InvarianceScores",
    "UserError",
    "__version__",
    "augmentation",
    "invariance_loss",
    "invariance_scores",
    "layer_weights",
    "pairwise_mse",
]
