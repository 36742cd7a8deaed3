"""Weights from files, which are never unpickled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dainv.errors import UserError

_INSIDE = ("state_dict", "model", "model_state_dict")  # where checkpoints keep the weights
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads that torchvision's files have and our networks do not
_SHOWN = 3


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Fill a network with weights from a file.

    Args:
        network: whose weights to set.
        path: a ``state_dict`` as ``torch.save`` writes it, alone or in a checkpoint (under ``state_dict``, ``model`` or
            ``model_state_dict``; one of ``dainv train`` too), or a ``.safetensors`` file. Names may have the prefix
            ``module.`` of a parallel network.

    Raises:
        UserError: not a readable file of weights, or weights of another network; says which.
    """
    path = Path(path)
    weights = _read(path)
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    own = network.state_dict()
    spare = [name for name in weights if name not in own and name.startswith(_AUXILIARY)]
    weights = {name: value for name, value in weights.items() if name not in spare}
    problems = []
    if missing := [name for name in own if name not in weights]:
        problems.append(f"no {_listed(missing)}")
    if unknown := [name for name in weights if name not in own]:
        problems.append(f"{_listed(unknown)} unknown to the model")
    for name in own:
        if name in weights and own[name].shape != weights[name].shape:
            problems.append(f"{name} is {_shape(weights[name])}, the model's is {_shape(own[name])}")
            break
    if problems:
        raise UserError(f"{path}: the weights are not of this model: {'; '.join(problems)}")
    network.load_state_dict(weights)


@contextmanager
def only_weights() -> Iterator[None]:
    """Make every ``torch.load`` within refuse other objects than tensors, also those that ask for them."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about TorchScript files, which are refused
            content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes torch.load raise
        if "Unsupported global" in str(error) or "TorchScript archive" in str(error):
            # torch goes on to say how to unpickle it all the same
            reason = "it holds more than tensors, and other objects are never unpickled; save model.state_dict()"
        else:
            reason = "it is damaged, or of another kind"
        raise UserError(f"{path}: not a file of weights ({reason})") from None
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path}: holds a {type(content).__name__}, expected names and tensors (a state_dict)")
    return dict(content)


def _torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"{path}: reading it needs safetensors; pip install safetensors") from None
    return load_file(path)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
