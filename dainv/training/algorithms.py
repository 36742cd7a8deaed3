"""Which algorithms this process computes with: the fastest ones, or those that give the same bits every time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dainv.errors import UserError

_NOT_THERE = "does not have a deterministic implementation"  # as torch says it


def choose_algorithms(deterministic: bool, device: torch.device) -> None:
    """Let torch choose, in this process.

    Args:
        deterministic: only what gives the same bits every time on the same machine. Otherwise cuDNN tries once what is
            fastest, as all batches have one size.
        device: that computes.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = device.type == "cuda" and not deterministic


@contextmanager
def naming_what_is_not_deterministic() -> Iterator[None]:
    """Around what computes; some operations give the same bits on a CPU only.

    Raises:
        UserError: names the operation that torch refuses.
    """
    try:
        yield
    except RuntimeError as error:
        operation, found, _ = str(error).partition(_NOT_THERE)
        if not found:
            raise
        raise UserError(
            f"--deterministic: {operation}{_NOT_THERE} here; take another network or device, or leave it out"
        ) from None
