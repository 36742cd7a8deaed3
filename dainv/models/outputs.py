"""What networks put out: logits, whatever they are wrapped in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dainv.errors import UserError


def logits_of(output: Any) -> Tensor:
    """The logits in what a network puts out.

    Args:
        output: a tensor; or a mapping or object with a tensor named ``logits``, as models of the transformers library
            and torchvision's GoogLeNet and Inception in training mode (the logits of auxiliary heads are not used).

    Raises:
        UserError: anything else.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise UserError(
        f"the model puts out a {type(output).__name__}, expected logits (B, classes) or something with .logits; "
        "wrap it in a function of yours and pass that as module:function"
    )
