"""The network that is looked at: by name, made for the images at hand, with the layers to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from dainv.data import ImageData
from dainv.errors import UserError
from dainv.models.loading import layers_of, load_model
from dainv.runs import RunDirectory


def network_for(
    spec: str,
    data: ImageData,
    layers: Sequence[str] = (),
    *,
    weights: str | None = None,
    checkpoint: str = "newest",
    seed: int = 0,
) -> tuple[nn.Module, list[str]]:
    """A network that takes the images of a data set, and its layers: those given, or else its own.

    Args:
        spec: what :func:`dainv.models.loading.load_model` takes.
        data: the images.
        layers: names or patterns.
        weights: as there.
        checkpoint: which one of a run directory, ``"newest"`` or ``"best"``.
        seed: of random weights, which are the same every time and in all processes.

    Raises:
        UserError: nothing of that name, weights that do not fit, images of other channels than a run's, or layers
            neither given nor known.
    """
    channels, height, width = data.image_shape
    if Path(spec).is_dir():
        if (expected := RunDirectory.open(spec).config["model"]["in_channels"]) != channels:
            raise UserError(f"{spec} was trained on images of {expected} channels, these have {channels}")
        network = load_model(spec, weights=weights, checkpoint=checkpoint)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = load_model(spec, in_channels=channels, image_size=(height, width), weights=weights)
    return network, list(layers) or layers_of(spec, network)


def random_weights_note(spec: str, weights: str | None) -> str | None:
    """What to say of a network that nobody has trained, which a name alone stands for; None of others.

    Args:
        spec: what :func:`network_for` was given.
        weights: likewise.
    """
    own = ":" in spec and not spec.startswith("timm:")  # a function may load weights, who knows
    if weights is not None or own or Path(spec).exists():
        return None
    return f"{spec} has random weights; weights 'pretrained', or a file, give it trained ones"
