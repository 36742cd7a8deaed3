"""How much of a GPU's memory a process took."""

from __future__ import annotations

import torch


def forget_peak(device: torch.device) -> None:
    """Begin to look for the highest use anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int] | None:
    """Highest use since then, in bytes: ``allocated`` by tensors and ``reserved`` by torch; None on a CPU."""
    if device.type != "cuda":
        return None
    return {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
    }
