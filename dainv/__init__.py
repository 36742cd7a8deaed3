"""Data augmentation invariance (Hernández-García, König & Kietzmann 2019): train for it and measure it.

Eq. 1 and 3 are in ``dainv_kernels``, Eq. 4 in :mod:`dainv.objective`, Eq. 2 in :mod:`dainv.scores`, the augmentation
schemes in :mod:`dainv.augment`, All-CNN-C in :mod:`dainv.models.allcnn`.

Example:
    >>> import torch, dainv
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.rand(4, 3, 32, 32, generator=generator)
    >>> views = dainv.augmentation("heavier")(images.repeat_interleave(2, dim=0), generator)  # two views of each
    >>> model = dainv.AllCNNC(width=0.1)
    >>> objective = dainv.InvarianceObjective(model, "layer[1-9]", alpha=0.1)
    >>> task = torch.nn.functional.cross_entropy(model(views), torch.tensor([3, 3, 1, 1, 4, 4, 1, 1]))
    >>> total, _, invariance = objective(task, torch.arange(4).repeat_interleave(2))  # Eq. 4, and Eq. 3 by layer
    >>> len(invariance), bool(total > 0)
    (9, True)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dainv._version import __version__

if TYPE_CHECKING:
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

# Imported when they are first used, so that ``dainv --help`` need not wait for torch.
_MODULES = {
    "AllCNNC": "dainv.models.allcnn",
    "Groups": "dainv_kernels",
    "InvarianceObjective": "dainv.objective",
    "InvarianceScores": "dainv.scores",
    "UserError": "dainv.errors",
    "augmentation": "dainv.augment",
    "invariance_loss": "dainv_kernels",
    "invariance_scores": "dainv.scores",
    "layer_weights": "dainv.objective",
    "pairwise_mse": "dainv_kernels",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
