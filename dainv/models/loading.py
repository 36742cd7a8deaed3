"""Models by name: All-CNN-C, torchvision's, a user's function, or the one in a run directory."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from dainv.errors import UserError
from dainv.models.allcnn import AllCNNC
from dainv.runs import RunDirectory


def model_from_config(config: dict[str, Any]) -> AllCNNC:
    """The untrained model that a run's ``config.json`` describes."""
    description = config["model"]
    return AllCNNC(
        n_classes=description["n_classes"],
        in_channels=description["in_channels"],
        batch_norm=description["batch_norm"],
        width=description["width"],
    )


def model_from_run(run: RunDirectory) -> AllCNNC:
    """The model of a run with its newest weights.

    Raises:
        UserError: no checkpoint, or one that does not fit.
    """
    model = model_from_config(run.config)
    state = run.load_checkpoint(warn=lambda message: print(message, file=sys.stderr))
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise UserError(f"{run.path}: the checkpoint does not fit its config.json ({error})") from None
    return model


def load_model(spec: str) -> nn.Module:
    """A model by what a user types.

    Args:
        spec: ``allcnn``, a run directory, the name of a torchvision classification model (untrained), or
            ``module:function`` of a function without arguments that returns a module.

    Raises:
        UserError: nothing of that name.
    """
    if spec == "allcnn":
        return AllCNNC()
    if Path(spec).is_dir():
        return model_from_run(RunDirectory.open(spec))
    if ":" in spec:
        return _from_function(spec)
    from torchvision import models

    known = models.list_models(module=models)
    if spec in known:
        found: nn.Module = models.get_model(spec, weights=None)
        return found
    near = difflib.get_close_matches(spec, ["allcnn", *known], n=5)
    hint = f"; near names: {', '.join(near)}" if near else ""
    raise UserError(f"no model {spec!r}: expected allcnn, a run directory, a torchvision name or module:function{hint}")


def _from_function(spec: str) -> nn.Module:
    module_name, _, function_name = spec.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{spec}: {error}") from None
    finally:
        sys.path.pop(0)
    model = function()
    if not isinstance(model, nn.Module):
        raise UserError(f"{spec}: returned a {type(model).__name__}, expected a torch.nn.Module")
    return model
