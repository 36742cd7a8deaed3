"""What all of this package's differentiable functions have in common."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn

import torch


class OneBatch(torch.autograd.Function):
    """A function of one batch, whose samples are compared with each other; not of many batches at a time."""

    def __init_subclass__(cls) -> None:
        """Keep the signature, which torch would make anew for every call."""
        super().__init_subclass__()
        cls.forward.__dict__["__signature__"] = inspect.signature(cls.forward)

    @staticmethod
    def vmap(*_: Any) -> NoReturn:
        """What ``torch.func.vmap`` calls.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "the invariance loss and pairwise_mse take one batch, not several by torch.func.vmap: "
            "expected one call a batch, in a loop"
        )
