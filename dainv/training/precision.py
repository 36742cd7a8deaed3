"""In what precision a step computes."""

from __future__ import annotations

import torch


def set_precision(precision: str) -> None:
    """Let a GPU's convolutions and products of matrices round float32 to TF32, or not, in this process.

    Args:
        precision: ``"fp32"`` forbids it; ``"tf32"`` allows it, and so does ``"bf16"`` for what autocast leaves alone.
    """
    allowed = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Around a forward pass: bfloat16 where it is asked for, else nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
