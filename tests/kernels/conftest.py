"""Where and by what each check of the operator runs: every device with every backend."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

pytest.register_assert_rewrite("kernels_checks")  # so that a failed comparison says by how much

KERNELS = Path(__file__).parents[2] / "kernels"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are so small that threads would only wait for each other, for long where the machine is shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def runs_triton_on(device: torch.device) -> str | None:
    """None, or why Triton is not expected to run there; never asked of the package, which could be wrong."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (its wheels are for Linux)"
    if tuple(map(int, importlib.metadata.version("triton").split(".")[:2])) < (3, 4):
        return "Triton before 3.4 is not used"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "Triton kernels run on the GPU here, not in the interpreter"
    return None


def runs_native_on(device: torch.device) -> str | None:
    """None, or why the native kernel is not expected to run there; not asked of the package either."""
    if device.type != "cpu":
        return "native kernels run on the CPU"
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return "native kernels need a C compiler"
    return None


def runs_on(backend: str, device: torch.device) -> str | None:
    if backend.startswith("triton"):
        return runs_triton_on(device)
    return runs_native_on(device) if backend == "native" else None


@pytest.fixture(params=["reference", "torch", "native", "triton", "triton-pairwise"])
def backend(request: pytest.FixtureRequest, device: torch.device) -> str:
    if reason := runs_on(request.param, device):
        pytest.skip(reason)
    return request.param


@pytest.fixture(params=["torch", "native", "triton"])
def closed_form_backend(request: pytest.FixtureRequest, device: torch.device) -> str:
    """The backends behind the registered operators."""
    if reason := runs_on(request.param, device):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def native(device: torch.device) -> str:
    """The backend "native" alone."""
    if reason := runs_native_on(device):
        pytest.skip(reason)
    return "native"


@pytest.fixture
def triton(device: torch.device) -> str:
    """The backend "triton" alone."""
    if reason := runs_triton_on(device):
        pytest.skip(reason)
    return "triton"


@pytest.fixture(scope="session")
def fresh_python() -> Callable[..., str]:
    """Run code in a new interpreter that sees no GPU and no ``TRITON_INTERPRET``; gives what it printed."""

    def run(code: str, **environment: str) -> str:
        inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        environment = {**inherited, "PYTHONPATH": str(KERNELS), "CUDA_VISIBLE_DEVICES": "", **environment}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
