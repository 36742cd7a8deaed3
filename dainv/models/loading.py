"""Networks by what a user types, and what a run's ``config.json`` says of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dainv.data import ImageData, load_again
from dainv.errors import UserError
from dainv.models.catalogue import Request, build
from dainv.models.layers import default_layers, layers_of_forward
from dainv.models.programs import load_program
from dainv.models.weights import load_weights
from dainv.runs import RunDirectory

PRETRAINED = "pretrained"  # in place of a file of weights: those that the model's library offers
_PROGRAMS = (".pt", ".pt2", ".ts", ".pth", ".safetensors")  # files; those of weights are told so


def load_model(
    spec: str,
    *,
    n_classes: int | None = None,
    in_channels: int = 3,
    image_size: int | tuple[int, int] | None = None,
    batch_norm: bool = False,
    width: float = 1.0,
    weights: str | None = None,
    checkpoint: str = "newest",
) -> nn.Module:
    """A network by what a user types.

    Args:
        spec: a name, see :func:`dainv.models.catalogue.build`; a run directory, with its weights; or a TorchScript
            (``.pt``) or ``torch.export`` file (``.pt2``).
        n_classes: number of outputs; what the network has by default if not given.
        in_channels: channels of the images.
        image_size: height and width of the images, for networks made for one size.
        batch_norm: All-CNN-C with batch normalisation.
        width: factor on the channels of All-CNN-C.
        weights: a file, see :func:`dainv.models.weights.load_weights`; or ``"pretrained"``, those that torchvision or
            timm offer, downloaded on first use. Random if not given.
        checkpoint: which one of a run directory, ``"newest"`` or ``"best"``.

    Raises:
        UserError: nothing of that name, or weights that do not fit.
    """
    path = Path(spec)
    if path.is_dir() or _is_program(path):
        if weights is not None:
            raise UserError(f"weights {weights}: {spec} has its own")
        return model_from_run(RunDirectory.open(path, checkpoint)) if path.is_dir() else load_program(path)
    pretrained = weights == PRETRAINED
    network = build(Request(spec, n_classes, in_channels, _pair(image_size), batch_norm, width, pretrained))
    if weights is not None and not pretrained:
        load_weights(network, weights)
    return network


def describe_model(
    spec: str,
    *,
    n_classes: int,
    in_channels: int,
    image_size: int | tuple[int, int],
    batch_norm: bool = False,
    width: float = 1.0,
    layers: str | list[str] | tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """What goes to a run's ``config.json`` as ``model``: all that :func:`model_from_config` needs.

    The network is made and tried with images once, so that what cannot be trained is found before anything is written.
    No random number is drawn.

    Args:
        spec: a name, see :func:`dainv.models.catalogue.build`, or a run directory.
        n_classes: number of classes of the data.
        in_channels: channels of the images.
        image_size: their height and width.
        batch_norm: All-CNN-C with batch normalisation.
        width: factor on the channels of All-CNN-C.
        layers: names or patterns of the layers to tap; those of :func:`default_layers` if not given.

    Returns:
        ``name``, ``n_classes``, ``in_channels``, ``image_size``, ``batch_norm``, ``width`` and ``layers``, their names
        in the order in which they run.

    Raises:
        UserError: nothing of that name, no layer of that name, or a network that does not fit the data.
    """
    path = Path(spec)
    if path.is_dir():
        description = dict(RunDirectory.open(path).config["model"])
        for key, value, what in (("n_classes", n_classes, "classes"), ("in_channels", in_channels, "channels")):
            if description[key] != value:
                raise UserError(f"{spec}: its model is for {description[key]} {what}, the data have {value}")
        if batch_norm or width != 1:
            raise UserError(f"batch_norm and width: {spec} has its own")
        layers = layers or description.get("layers")
    elif _is_program(path):
        raise UserError(f"{spec}: a file with a program can be scored, not trained; pass module:function instead")
    else:
        description = {
            "name": spec,
            "n_classes": n_classes,
            "in_channels": in_channels,
            "batch_norm": batch_norm,
            "width": width,
        }
    size = _pair(image_size) or (0, 0)
    description["image_size"] = list(size)
    with torch.random.fork_rng(devices=[]):
        network = model_from_config({"model": description})
        patterns = layers or default_layers(network)
        description["layers"] = layers_of_forward(network, patterns, (in_channels, *size), n_classes)
    return description


def model_from_config(config: dict[str, Any]) -> nn.Module:
    """The untrained network that a run's ``config.json`` describes.

    Raises:
        UserError: it cannot be made here, for example because a library or a module of the user's is missing.
    """
    description = config["model"]
    size = description.get("image_size")  # runs of earlier versions, all of All-CNN-C, have none
    return build(
        Request(
            name=description["name"],
            n_classes=description["n_classes"],
            in_channels=description["in_channels"],
            image_size=None if size is None else tuple(size),
            batch_norm=description["batch_norm"],
            width=description["width"],
        )
    )


def model_from_run(run: RunDirectory) -> nn.Module:
    """The network of a run with the weights of its checkpoint.

    Raises:
        UserError: no checkpoint, or one that does not fit.
    """
    network = model_from_config(run.config)
    state = run.load_checkpoint(warn=lambda message: print(message, file=sys.stderr))
    try:
        network.load_state_dict(state["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{run.path}: the checkpoint does not fit its config.json ({reason})") from None
    return network


def layers_of(spec: str, network: nn.Module) -> list[str]:
    """The layers to look at where none are named: those of a run's objective, or :func:`default_layers`.

    Args:
        spec: what :func:`load_model` was given.
        network: what it returned.

    Raises:
        UserError: none are known.
    """
    config = _run_config(spec)
    return list(config["layers"]) if config else default_layers(network)


def load_images(
    spec: str, data: str | None = None, data_root: str | None = None, image_size: int | None = None
) -> ImageData:
    """The data given, or those that a run was trained on; a folder needs test images only.

    Args:
        spec: what :func:`load_model` takes.
        data: other data than the run's.
        data_root: another place for downloads.
        image_size: another side of the images of a folder.

    Raises:
        UserError: data that cannot be loaded; or none given, and the model is no run directory.
    """
    settings = _run_config(spec).get("settings", {})
    if data is None and not settings:
        raise UserError(f"{spec}: say which images with --data; only a run directory knows its own")
    return load_again(settings, data, data_root, image_size, test_only=True)


def image_shape_of(spec: str, image_size: int | None = None, channels: int | None = None) -> tuple[int, int, int]:
    """(C, H, W) of images to try a model with: as given, else those a run was trained on, else 3 x 32 x 32."""
    config = _run_config(spec)
    shape = config["data"]["image_shape"] if config else (3, 32, 32)
    height, width = shape[1:] if image_size is None else (image_size, image_size)
    return (shape[0] if channels is None else channels), height, width


def model_to_train(spec: str, description: dict[str, Any], weights: str | None = None) -> nn.Module:
    """The network that a training run begins with.

    Args:
        spec: as in :func:`describe_model`; a run directory gives its newest weights.
        description: what that function made of it.
        weights: see :func:`load_model`.

    Raises:
        UserError: weights that do not fit.
    """
    return load_model(
        spec,
        n_classes=description["n_classes"],
        in_channels=description["in_channels"],
        image_size=tuple(description["image_size"]),
        batch_norm=description["batch_norm"],
        width=description["width"],
        weights=weights,
    )


def _run_config(spec: str) -> dict[str, Any]:
    """Of a run directory; empty for anything else."""
    return RunDirectory.open(spec).config if Path(spec).is_dir() else {}


def _is_program(path: Path) -> bool:
    return path.suffix in _PROGRAMS and ":" not in path.name


def _pair(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (image_size, image_size) if isinstance(image_size, int) else image_size
