"""What is looked at: a model by name, some of its layers, and a choice of test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dainv.data import ImageData, choose_images
from dainv.errors import UserError
from dainv.models.foreign import first_line
from dainv.models.loading import layers_of, load_model
from dainv.taps import Taps, evaluating, match_layers

Keep = Callable[[str, Tensor], Tensor]


def subject(spec: str, patterns: Sequence[str]) -> tuple[nn.Module, list[str]]:
    """A model and the names of its layers.

    Args:
        spec: what :func:`dainv.models.loading.load_model` takes.
        patterns: of layer names; empty for those of :func:`dainv.models.loading.layers_of`.

    Raises:
        UserError: no such model or layer; or no pattern, and none are known for the model.
    """
    model = load_model(spec)
    return model, match_layers(model, patterns or layers_of(spec, model))


def images_by_class(data: ImageData, number: int | None, seed: int, indices: Sequence[int] = ()) -> Tensor:
    """Indices of test images, int64, class by class.

    Args:
        data: where they are.
        number: how many to draw; all if not given.
        seed: of the draw.
        indices: the images themselves, in this order, instead of a draw.

    Raises:
        UserError: more images than there are, or an index out of range.
    """
    if indices:
        available = len(data.test)
        wrong = [index for index in indices if not 0 <= index < available]
        if wrong:
            raise UserError(f"--indices: {data.name} has test images 0 to {available - 1}, not {wrong[0]}")
        return torch.tensor(indices)
    chosen = choose_images(data, number, seed)
    return chosen[data.test.labels[chosen].argsort(stable=True)]


@dataclass(frozen=True)
class Listener:
    """Layers of a model that is in eval mode; hands over what they put out for a batch.

    Attributes:
        model: on its device.
        taps: on the layers.
        device: where it computes.
    """

    model: nn.Module
    taps: Taps
    device: torch.device

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Layer -> what the tap keeps of it, for images ``(n, C, H, W)``.

        Raises:
            UserError: the model does not take such images.
        """
        batch = images.to(self.device).contiguous(memory_format=torch.channels_last)
        try:
            self.model(batch)
        except torch.OutOfMemoryError:
            raise UserError(f"--batch-size {len(images)}: more than the device's memory holds; choose less") from None
        except (RuntimeError, ValueError) as error:
            shape = tuple(images.shape[1:])
            raise UserError(f"the model does not take images of {shape}: {first_line(error)}") from None
        return self.taps.take()


@contextmanager
def listening(
    model: nn.Module, layers: Sequence[str], device: torch.device | str | None, keep: Keep
) -> Iterator[Listener]:
    """A model put on a device and in eval mode, its layers tapped, and all of it back as it was.

    Args:
        model: any module.
        layers: names of its layers.
        device: where to compute; the model's device if not given.
        keep: what to keep of features ``(n, D)`` float32 of a layer, which are gone afterwards.

    Raises:
        UserError: a layer does not put out a row an image.
    """
    was_on = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    place = was_on if device is None else torch.device(device)
    taps = Taps(model, layers, lambda name, output: keep(name, rows(output)))
    try:
        with evaluating(model.to(place)):
            yield Listener(model, taps, place)
    finally:
        taps.remove()
        model.to(was_on)


def rows(features: Tensor) -> Tensor:
    """``(n, D)`` float32; maps are read channels innermost, as they lie in memory, so that nothing is copied."""
    if features.ndim == 4:
        features = features.permute(0, 2, 3, 1)
    return features.flatten(1).float()
