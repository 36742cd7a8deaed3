"""Which device to compute on, and by which backend of the operator."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dainv.errors import UserError
from dainv.settings import TrainSettings


def resolve_device(name: str) -> torch.device:
    """``"auto"`` is CUDA where there is one.

    Raises:
        UserError: no such device here.
    """
    if name == "auto" or (name == "cuda" and torch.cuda.is_available()):  # without taking memory of the first GPU
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    if device.type == "meta":
        raise UserError(f"--device {name}: expected one that computes, such as cpu or cuda")
    return device


def resolve_backend(settings: TrainSettings, device: torch.device, message: Callable[[str], None]) -> str:
    """The operator's backend: the one asked for, else the fastest one that works on the device.

    Args:
        settings: of the run; a run that goes on has the backend that it was started with in ``settings.backend``.
        device: where the features will be.
        message: told where a fused run does without Triton.

    Raises:
        UserError: the backend asked for by name does not work here.
    """
    from dainv_kernels.backends import choose_backend

    probe = torch.empty(1, device=device)
    if settings.backend is not None:
        try:
            return choose_backend(settings.backend, probe)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"--backend: {error}") from None
    otherwise = choose_backend("auto", probe)
    if not settings.fused:
        return otherwise
    try:
        return choose_backend("triton", probe)
    except RuntimeError as error:
        message(f"--fused: {error}; backend {otherwise!r} runs instead")
        return otherwise
