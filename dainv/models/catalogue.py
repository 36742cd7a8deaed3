"""Untrained networks by name: our own, torchvision's, timm's, or a function of the user's."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dainv.errors import UserError
from dainv.models.allcnn import AllCNNC
from dainv.models.foreign import blame, first_line, function_named
from dainv.models.layers import describe_layers
from dainv.models.programs import ScriptedNetwork
from dainv.models.weights import only_weights
from dainv.models.wideresnet import WideResNet

_WIDE = re.compile(r"wrn-(\d+)-(\d+)")
_OWN = ("allcnn", "cifar-resnet18", "wrn-28-10")
_TAKES_IMAGE_SIZE = {"vit": "image_size", "maxvit": "input_size"}  # of torchvision's families, by the name's first part


@dataclass(frozen=True)
class Request:
    """What network is wanted.

    Attributes:
        name: see :func:`build`.
        n_classes: number of outputs; what the network has by default if not given.
        in_channels: channels of the images.
        image_size: (height, width) of the images, for networks made for one size.
        batch_norm: All-CNN-C with batch normalisation.
        width: factor on the channels of All-CNN-C.
        pretrained: with the weights that its library offers for download.
    """

    name: str
    n_classes: int | None = None
    in_channels: int = 3
    image_size: tuple[int, int] | None = None
    batch_norm: bool = False
    width: float = 1.0
    pretrained: bool = False


def build(request: Request) -> nn.Module:
    """A network by name.

    ``allcnn``; ``cifar-resnet18``, the ResNet-18 of torchvision with a first convolution of 3 x 3 and no max-pooling;
    ``wrn-D-W``, a wide ResNet of depth D and width W; the name of a torchvision classification model, built without
    auxiliary heads; ``timm:NAME``; or ``module:function``, called with those of n_classes, in_channels and image_size
    (height, width) that it takes by name.

    Raises:
        UserError: nothing of that name, or it cannot be made as requested.
    """
    name = request.name
    if name not in _OWN and not _WIDE.fullmatch(name) and ":" not in name:
        _expect_torchvision_has(name)
    if name != "allcnn" and (request.batch_norm or request.width != 1):
        raise UserError(f"batch_norm and width are those of allcnn; {name} has its own")
    if request.pretrained and (name in _OWN or _WIDE.fullmatch(name) or (":" in name and name[:5] != "timm:")):
        raise UserError(f"pretrained weights: there are none for {name}; pass a file")
    if name == "allcnn":
        return AllCNNC(request.n_classes or 10, request.in_channels, request.batch_norm, request.width)
    if name == "cifar-resnet18":
        return _cifar_resnet18(request)
    if wide := _WIDE.fullmatch(name):
        try:
            return WideResNet(int(wide[1]), int(wide[2]), request.n_classes or 10, request.in_channels)
        except ValueError as error:
            raise UserError(f"{name}: {error}") from None
    if name.startswith("timm:"):
        return _timm(request)
    if ":" in name:
        return _from_function(request)
    return _torchvision(request)


def _cifar_resnet18(request: Request) -> nn.Module:
    from torchvision import models

    network = models.resnet18(num_classes=request.n_classes or 10)
    network.conv1 = nn.Conv2d(request.in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


def _expect_torchvision_has(name: str) -> None:
    """The last kind of name; a mistyped one ends here.

    Raises:
        UserError: torchvision has no such model.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name in known:
        return
    if "/" in name:
        raise UserError(f"{name}: no such run directory")
    near = difflib.get_close_matches(name, [*_OWN, *known], n=5)
    hint = f"; near names: {', '.join(near)}" if near else ""
    raise UserError(
        f"no model {name!r}: expected {', '.join(_OWN)}, a torchvision name, timm:NAME, module:function, "
        f"a run directory or a .pt or .pt2 file{hint}"
    )


def _torchvision(request: Request) -> nn.Module:
    from torchvision import models

    name = request.name
    options: dict[str, Any] = {"weights": "DEFAULT" if request.pretrained else None}
    if request.n_classes is not None:
        options["num_classes"] = request.n_classes
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": request.pretrained, "init_weights": not request.pretrained}
    if (family := name.split("_")[0]) in _TAKES_IMAGE_SIZE and request.image_size is not None:
        height, width = request.image_size
        options[_TAKES_IMAGE_SIZE[family]] = height if family == "vit" else (height, width)
    try:
        with _loading(request):
            network: nn.Module = models.get_model(name, **options)
    except UserError:
        raise
    except Exception as error:  # a size that does not fit, other classes than the weights have
        raise UserError(f"{name}: {first_line(error)}") from None
    return _with_channels(network, request)


@contextmanager
def _loading(request: Request) -> Iterator[None]:
    """What a library downloads is not unpickled, which torchvision would, and a failing download is a line.

    That it downloads goes to stderr: on stdout there may be JSON.
    """
    try:
        with only_weights(), redirect_stdout(sys.stderr):
            yield
    except OSError as error:  # of urllib too, which wraps the reason
        reason = getattr(error, "reason", first_line(error))
        raise UserError(f"pretrained weights: {request.name}'s cannot be downloaded ({reason}); pass a file") from None


def _with_channels(network: nn.Module, request: Request) -> nn.Module:
    """The network with a new first convolution where images do not have the channels it was made for."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == request.in_channels:
                return network
            if request.pretrained or module.groups != 1:
                break
            first = nn.Conv2d(
                request.in_channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                bias=module.bias is not None,
                padding_mode=module.padding_mode,
            )
            network.set_submodule(name, first)
            return network
    raise UserError(f"{request.name}: cannot take images of {request.in_channels} channels; it was made for 3")


def _timm(request: Request) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"{request.name}: timm cannot be imported ({error}); pip install timm") from None
    name = request.name.removeprefix("timm:")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise UserError(f"timm has no model {name!r}{hint}")
    options: dict[str, Any] = {"in_chans": request.in_channels}
    if request.n_classes is not None:
        options["num_classes"] = request.n_classes
    sized = {"img_size": request.image_size} if request.image_size is not None else {}
    try:
        with _loading(request):
            try:
                network: nn.Module = timm.create_model(name, pretrained=request.pretrained, **options, **sized)
            except TypeError:  # most networks take images of any size and know no such argument
                network = timm.create_model(name, pretrained=request.pretrained, **options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{request.name}: {first_line(error)}") from None
    return network


def _from_function(request: Request) -> nn.Module:
    function = function_named(request.name)
    offered = {
        "n_classes": request.n_classes,
        "in_channels": request.in_channels,
        "image_size": request.image_size,
    }
    try:
        taken = inspect.signature(function).parameters
        network = function(**{key: value for key, value in offered.items() if key in taken and value is not None})
    except Exception as error:  # the user's code
        raise UserError(f"{request.name}: {blame(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{request.name}: returned a {type(network).__name__}, expected a torch.nn.Module")
    if isinstance(network, torch.jit.ScriptModule):
        return ScriptedNetwork(network)
    if request.image_size and any(is_lazy(one) for one in chain(network.parameters(), network.buffers())):
        describe_layers(network, "*", (request.in_channels, *request.image_size))  # a forward pass makes them
    return network
