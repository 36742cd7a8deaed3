"""Which device to compute on."""

from __future__ import annotations

import torch

from dainv.errors import UserError


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
