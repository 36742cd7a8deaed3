"""Features and groups that the tests share."""

from __future__ import annotations

import torch
from torch import Tensor

from dainv_kernels import Groups

K, M = 8, 7  # odd on purpose: B = 56 is no power of two and no multiple of a tile
B, D = K * M, 97
CONSECUTIVE = torch.arange(K).repeat_interleave(M)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Unit noise in float64, the same on every device."""
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def grouped(ids: Tensor, *shape: int, spread: float = 0.5, seed: int = 0) -> Tensor:
    """Unit noise that differs between groups plus ``spread`` of it within, so that a loss is neither 0 nor 1."""
    group = ids.unique(return_inverse=True)[1]
    return noise(int(group.max()) + 1, *shape, seed=seed)[group] + spread * noise(len(ids), *shape, seed=seed + 1)


def shuffled(ids: Tensor, seed: int = 0) -> Tensor:
    return ids[torch.randperm(len(ids), generator=generator(seed))]


def ids_of_sizes(*sizes: int) -> Tensor:
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


_RAGGED = ids_of_sizes(1, 2, 3, 5, 8, 13, 24)
_HUGE = torch.tensor([-(2**63), -(2**40), -7, -1, 0, 5, 2**40, 2**63 - 1])

PARTITIONS = {
    "consecutive": CONSECUTIVE,
    "shuffled": shuffled(CONSECUTIVE),
    "ragged": _RAGGED,
    "ragged-descending": _RAGGED.flip(0),
    "ragged-shuffled": shuffled(_RAGGED),
    "huge-and-negative": shuffled(_HUGE.repeat_interleave(M)),
    "pairs-only": shuffled(torch.arange(B) // 2),
    "one-pair-among-singles": torch.arange(B).clamp(min=1),
}


def consecutive_groups(device: torch.device | str = "cpu") -> Groups:
    return Groups.consecutive(K, M, device=device)
