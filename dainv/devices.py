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
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def resolve_backend(settings: TrainSettings, device: torch.device, message: Callable[[str], None]) -> str:
    """The operator's backend: the one asked for, else Triton for a fused run where it works, else torch.

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
    if not settings.fused:
        return "torch"
    try:
        return choose_backend("triton", probe)
    except RuntimeError as error:
        message(f"--fused: {error}; the closed form in torch runs instead")
        return "torch"
