"""Which algorithms this process computes with: the fastest ones, or those that give the same bits every time."""

from __future__ import annotations

import os

import torch


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
