"""Networks in files that carry their own program: TorchScript and ``torch.export``.

``torch.jit.load`` has an interpreter and an unpickler of its own, that know no Python. ``torch.export.load`` is not so
careful: it unpickles what is not plain tensors, looks operators up by any dotted name and evaluates symbolic sizes as
Python. So an exported file is searched first, and one with anything but operators, tensors and arithmetic is refused.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dainv.errors import UserError
from dainv.models.foreign import first_line
from dainv.models.weights import only_weights

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|torchvision|dainv)\.\w+(\.\w+)?|(_operator|math)\.\w+|torch\.sym_\w+"
)
_FUNCTIONS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod"),
    *("FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not"),
}
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),='<>!&|]*")


class ScriptedNetwork(nn.Module):
    """A TorchScript program as a network with a single layer, ``output``.

    A program runs as a whole: torch calls no hook of the modules inside it.

    Attributes:
        layer_names: ``("output",)``.
    """

    layer_names = ("output",)

    def __init__(self, program: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.program = program
        self.output = nn.Identity()

    def forward(self, images: Tensor) -> Any:
        """Whatever the program makes of the images."""
        return self.output(self.program(images))


def load_program(path: Path) -> nn.Module:
    """The network in a TorchScript file (``.pt``) or one of ``torch.export`` (``.pt2``).

    The layers of an exported network have the names they had in Python. A TorchScript program has one layer,
    ``output``.

    Raises:
        UserError: no such file, another kind of file, a damaged one, or one with more than a network in it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2]: name for name in archive.namelist()}
            exported = "models/model.json" in members or "serialized_exported_program.json" in archive.namelist()
            if exported:
                _refuse_code(path, archive)
        with only_weights(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about the future of either kind
            if exported:
                network: nn.Module = torch.export.unflatten(torch.export.load(path))
                return network
            if any(name.startswith("code/") for name in members):
                return ScriptedNetwork(torch.jit.load(path, map_location="cpu"))
    except UserError:
        raise
    except Exception as error:  # zip files, JSON, two loaders: any of dozens
        raise UserError(f"{path}: not readable ({first_line(error)})") from None
    raise UserError(f"{path}: holds no program; if it holds weights, name their model and pass it as --weights {path}")


def _refuse_code(path: Path, archive: zipfile.ZipFile) -> None:
    """Look for what would run as Python when the file is loaded.

    Raises:
        UserError: names what was found.
    """
    for member in archive.namelist():
        if not member.endswith(".json"):
            continue
        for key, value in _strings(json.loads(archive.read(member))):
            if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", value):
                raise UserError(f"{path}: holds a pickled object ({value}); it is not loaded")
            if key == "target" and "." in value and not _OPERATOR.fullmatch(value):
                raise UserError(f"{path}: calls {value}, which is not one of torch's operators; it is not loaded")
            if key == "expr_str" and not _is_arithmetic(value):
                raise UserError(f"{path}: has a size that is not arithmetic ({value}); it is not loaded")


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts in a JSON value with the keys that they stand at."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
    elif isinstance(value, str):
        yield key, value


def _is_arithmetic(expression: str) -> bool:
    called = set(re.findall(r"(\w+)\s*\(", expression))
    return bool(_EXPRESSION.fullmatch(expression)) and called <= _FUNCTIONS and "__" not in expression
