"""Which implementations of the operator work on this machine, and why the others do not."""

from __future__ import annotations

import os

import torch
from torch import Tensor

BACKENDS = ("reference", "torch", "triton", "triton-pairwise")


def interpreted() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU (``TRITON_INTERPRET=1`` at import time)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _why_not_triton() -> str | None:
    try:
        import triton  # noqa: F401  # only whether it can be imported matters here
    except ImportError as error:
        return f"Triton cannot be imported ({error})"
    if not torch.cuda.is_available() and not interpreted():
        return "no CUDA device (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, for tests)"
    return None


def backend_status() -> dict[str, str]:
    """For each backend ``"works"`` or the reason why it does not, on this machine."""
    triton = _why_not_triton() or "works"
    return {"reference": "works", "torch": "works", "triton": triton, "triton-pairwise": triton}


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
        on_gpu = features.device.type == "cuda"
        return "triton" if on_gpu and _why_not_triton() is None else "torch"
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {('auto', *BACKENDS)}, got {name!r}")
    if name.startswith("triton"):
        reason = _why_not_triton()
        if reason is None and features.device.type != "cuda" and not interpreted():
            reason = f"the features are on {features.device}, Triton kernels need a CUDA device"
        if reason is not None:
            raise RuntimeError(f"backend {name!r} does not work here: {reason}")
    return name
