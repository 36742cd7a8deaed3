"""What layers a model has, in which order they run, and how large their outputs are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dainv.errors import UserError, is_lack_of_memory
from dainv.models.foreign import first_line
from dainv.models.outputs import logits_of
from dainv.taps import OVERWRITTEN, evaluating, match_layers, version_of

TENSOR = "Tensor"
_RESIDUAL_BLOCK = re.compile(r"layer[1-4]\.\d+")


class Layer(NamedTuple):
    """A module of a model: its dotted name, type, output shape without the batch, and D.

    Where a layer puts out something else than a tensor of samples, ``shape`` is empty, D is 0 and ``output`` says what.
    An output that a later layer has ``overwritten`` in place is gone when it is asked for.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    dimension: int
    output: str = TENSOR
    overwritten: bool = False


def default_layers(network: nn.Module) -> list[str]:
    """The layers to tap where none are named.

    Those that a network lists in an attribute ``layer_names`` (All-CNN-C: all nine; wide ResNets: the outputs of the
    blocks, after the addition); the outputs of the residual blocks of networks that name them as torchvision's and
    timm's ResNets do, ``layer1.0`` and so on.

    Raises:
        UserError: neither.
    """
    if names := list(getattr(network, "layer_names", ())):
        return names
    if names := [name for name, _ in network.named_modules() if _RESIDUAL_BLOCK.fullmatch(name)]:
        return names
    raise UserError("no layers are known for this model; name some with --layers")


def describe_layers(model: nn.Module, pattern: str, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers that run, in the order in which they do.

    Args:
        model: any module.
        pattern: shell-style pattern of names.
        image_shape: (C, H, W) of the image to try it with.

    Raises:
        UserError: no layer matches, or the model does not accept such an image.
    """
    return list(_try(model, match_layers(model, pattern), image_shape)[1].values())


def layers_of_forward(
    model: nn.Module, patterns: str | Sequence[str], image_shape: tuple[int, int, int], n_classes: int
) -> list[str]:
    """Names of the layers that match, in the order in which they run: Eq. 4 weights them by depth.

    Args:
        model: images to logits.
        patterns: see :func:`dainv.taps.match_layers`.
        image_shape: (C, H, W) of the image to try it with.
        n_classes: outputs that the model has to have.

    Raises:
        UserError: no layer matches, one of them does not run or puts out no tensor, the model does not accept such an
            image, or its logits are not one for each class.
    """
    names = match_layers(model, patterns)
    output, layers = _try(model, names, image_shape)
    if (found := tuple(logits_of(output).shape)) != (2, n_classes):
        raise UserError(f"the model puts out {found} for 2 images, expected (2, {n_classes}): a logit for each class")
    if idle := [name for name in names if name not in layers]:
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        raise UserError(f"layers that do not run in a forward pass: {', '.join(idle[:3])}{more}; choose others")
    for layer in layers.values():
        if layer.output != TENSOR:
            raise UserError(f"layer {layer.name!r} puts out a {layer.output}, not a tensor; choose one inside it")
        if layer.overwritten:
            raise UserError(f"layer {layer.name!r}: {OVERWRITTEN}")
    return list(layers)


def _try(model: nn.Module, names: Sequence[str], image_shape: tuple[int, int, int]) -> tuple[Any, dict[str, Layer]]:
    """What a model puts out for two black images, and its layers in the order in which they run for the last time."""
    found: dict[str, tuple[str, Any, int | None]] = {}  # type, output, and how often it had been written to

    def listen(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            found.pop(name, None)
            found[name] = type(module).__name__, output, version_of(output) if isinstance(output, Tensor) else None

        return model.get_submodule(name).register_forward_hook(hook)

    own = next(model.parameters(), torch.empty(0))
    images = torch.zeros(2, *image_shape, dtype=own.dtype, device=own.device)
    handles = [listen(name) for name in names]
    try:
        with evaluating(model):
            output = model(images)
    except UserError:
        raise
    except Exception as error:  # whatever a model of anyone's does with an image it was not made for
        if is_lack_of_memory(error):
            raise
        shape = " x ".join(map(str, image_shape))
        raise UserError(f"the model does not accept images of {shape}: {first_line(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
    return output, {name: _layer(name, *of) for name, of in found.items()}


def _layer(name: str, kind: str, output: Any, version: int | None) -> Layer:
    if not isinstance(output, Tensor) or output.ndim == 0:
        return Layer(name, kind, (), 0, "number" if isinstance(output, Tensor) else type(output).__name__)
    overwritten = version_of(output) != version
    return Layer(name, kind, tuple(output.shape[1:]), output[0].numel(), overwritten=overwritten)
