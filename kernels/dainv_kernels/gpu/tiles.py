"""Tiles of the closed form's kernels, by shape alone: nothing is tuned at run time, nothing can disturb a capture."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from dainv_kernels.backends import interpreted
from dainv_kernels.gpu.launch import accumulator

# Consecutive groups of up to so many members are unrolled: all their loads are under way before the first is used.
_UNROLLED = 16
# A large GPU is busy with two programs on each of its 132 multiprocessors.
_PROGRAMS = 264


class Tile(NamedTuple):
    """What one program works on.

    Attributes:
        group_block: groups side by side.
        block_d: columns.
        num_warps: warps.
    """

    group_block: int
    block_d: int
    num_warps: int

    def constants(self, features: int, dtype: torch.dtype, views: int) -> dict[str, object]:
        """Compile-time arguments of both kernels that do not depend on what is asked for."""
        return {
            "VIEWS": views,
            "UNROLLED": _unrolled(features, views),
            "GROUP_BLOCK": self.group_block,
            "BLOCK_D": self.block_d,
            "ACC": accumulator(dtype),
            "num_warps": self.num_warps,
        }

    def grid(self, batch: int, features: int, views: int) -> tuple[int, int]:
        """Tiles of columns, and blocks of groups: of the most groups there can be, where they are not counted."""
        most_groups = batch // views if views else batch
        return triton.cdiv(features, self.block_d), triton.cdiv(most_groups, self.group_block)


def _unrolled(features: int, views: int) -> bool:
    """Not where rows do not start at multiples of 16 bytes: so many narrow loads would not fit into the registers."""
    return 0 < views <= _UNROLLED and (features % 16 == 0 or interpreted())


def forward_tile(features: int, dtype: torch.dtype, views: int) -> Tile:
    """Tile of the forward pass.

    A thread loads 16 bytes of a row at a time, the widest load there is, and a row's part of a tile is at least 128
    bytes, a line of the cache. Layers with few features get tiles half as wide, so that there are programs enough;
    where more than eight members are unrolled, half as many groups, and one load of a member in each thread, leave the
    registers to hold them.
    """
    if interpreted():  # a program costs about 10 ms whatever its width: few wide ones
        return Tile(8, min(1024, triton.next_power_of_2(features)), 4)
    narrow = features <= 16384
    if dtype.itemsize == 2:
        tile = Tile(8, 64, 2) if narrow else Tile(8, 128, 4)
    elif dtype.itemsize == 8:
        tile = Tile(16, 16, 4) if narrow else Tile(16, 32, 4)
    else:
        tile = Tile(16, 32, 4) if narrow else Tile(16, 64, 4)
    if views > 8 and _unrolled(features, views):
        groups = tile.group_block // 2
        return Tile(groups, tile.block_d, groups * tile.block_d * dtype.itemsize // 512)
    return tile


def backward_tile(features: int, dtype: torch.dtype, views: int) -> Tile:
    """Tile of the backward pass: it holds all members of eight groups in registers, so it is half as high."""
    if interpreted():
        return forward_tile(features, dtype, views)
    if views > 8 and _unrolled(features, views):
        return Tile(4, 256 // dtype.itemsize, 2)
    return Tile(8, 256 // dtype.itemsize, 4)


def forward_grid(tile: Tile, batch: int, features: int, views: int) -> tuple[int, int]:
    """Tiles of columns, and splits of the groups: more than one where D is small and B large."""
    tiles, blocks = tile.grid(batch, features, views)
    return tiles, max(1, min(_PROGRAMS // tiles, blocks))
