"""Which implementations of the operator work on this machine, and why the others do not."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from dainv_kernels import native

BACKENDS = ("reference", "torch", "native", "triton", "triton-pairwise")

_OLDEST_TRITON = (3, 4)  # 3.2 cannot add tuples


def interpreted() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU (``TRITON_INTERPRET=1`` at import time)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _why_not_triton() -> str | None:
    try:
        import triton
    except ImportError as error:
        return f"Triton cannot be imported ({error})"
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST_TRITON:
        return f"Triton {triton.__version__} cannot compile the kernels; expected 3.4 or newer"
    if not torch.cuda.is_available() and not interpreted():
        return "no CUDA device (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, for tests)"
    return None


def _why_not_native() -> str | None:
    if torch.compiler.is_compiling():  # a compiler cannot be asked while a graph is traced; the kernel will see
        return None
    return native.why_not()


def backend_status() -> dict[str, str]:
    """For each backend ``"works"`` or the reason why it does not, on this machine."""
    triton = _why_not_triton() or "works"
    return {
        "reference": "works",
        "torch": "works",
        "native": _why_not_native() or "works",
        "triton": triton,
        "triton-pairwise": triton,
    }


def available_backends() -> tuple[str, ...]:
    """Names of the backends that work here."""
    return tuple(name for name, status in backend_status().items() if status == "works")


def choose_backend(name: str, features: Tensor) -> str:
    """The backend to run for ``features``: itself, or for ``"auto"`` the fastest that works where they are.

    Raises:
        ValueError: unknown name.
        RuntimeError: a backend that was asked for by name does not work here.
    """
    if name == "auto":
        return _fastest_on(features.device)
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {('auto', *BACKENDS)}, got {name!r}")
    reason = None
    if name == "native":
        reason = _why_not_native()
        if features.device.type != "cpu":
            reason = f"the features are on {features.device}, native kernels run on the CPU"
    elif name.startswith("triton"):
        reason = _why_not_triton()
        if reason is None and features.device.type != "cuda" and not interpreted():
            reason = f"the features are on {features.device}, Triton kernels need a CUDA device"
    if reason is not None:
        raise RuntimeError(f"backend {name!r} does not work here: {reason}")
    return name


def _fastest_on(device: torch.device) -> str:
    if device.type == "cuda" and _why_not_triton() is None:
        return "triton"
    return "native" if device.type == "cpu" and _why_not_native() is None else "torch"
