"""What the package is to other code: what it imports, what it exports, and that its examples are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import dainv_kernels

FILES = sorted(Path(dainv_kernels.__file__).parent.rglob("*.py"))
MODULES = [module.name for module in pkgutil.iter_modules(dainv_kernels.__path__, "dainv_kernels.")]


def imported_packages(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("dainv_kernels" if node.level else str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_operator_imports_torch_and_triton_and_nothing_of_ours(file: Path) -> None:
    assert imported_packages(file) <= {"torch", "triton", "dainv_kernels"} | sys.stdlib_module_names


def test_files_were_found() -> None:
    assert "operator.py" in {file.name for file in FILES}
    assert "torch" in imported_packages(Path(dainv_kernels.__file__).with_name("operator.py"))


def test_public_names() -> None:
    names = {"Groups", "available_backends", "backend_status", "invariance_loss", "pairwise_mse"}
    assert names <= set(dainv_kernels.__all__)
    assert all(getattr(dainv_kernels, name).__doc__ for name in dainv_kernels.__all__)


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith(".gpu")])
def test_examples_in_docstrings_are_true(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
