"""What layers a model has and how large their outputs are."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dainv.errors import UserError
from dainv.taps import evaluating, match_layers


class Layer(NamedTuple):
    """A module of a model: its dotted name, type, output shape without the batch, and D."""

    name: str
    type: str
    shape: tuple[int, ...]
    dimension: int


def describe_layers(model: nn.Module, pattern: str, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers that put out a tensor, in the order they run.

    Args:
        model: any module.
        pattern: shell-style pattern of names.
        image_shape: (C, H, W) of the image to try it with.

    Raises:
        UserError: no layer matches, or the model does not accept such an image.
    """
    match_layers(model, pattern)
    found: dict[str, Layer] = {}

    def listen(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shape = tuple(output.shape[1:])
                found[name] = Layer(name, type(module).__name__, shape, output[0].numel())

        return module.register_forward_hook(hook)

    handles = [listen(n, m) for n, m in model.named_modules() if n and fnmatchcase(n, pattern)]
    try:
        with evaluating(model):
            model(torch.zeros(2, *image_shape))
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the model does not accept images of {image_shape}: {str(error).splitlines()[0]}") from None
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())
