"""Tiles of the closed form's kernels, by shape alone: nothing is tuned at run time, nothing can disturb a capture."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from dainv_kernels.backends import interpreted
from dainv_kernels.gpu.launch import accumulator

# Consecutive groups of up to so many members are asked for whole: what is kept of them in registers is read once.
_WHOLE = 16
_AHEAD = 4  # members of other groups that are asked for at a time
# A large GPU is busy with two programs on each of its 132 multiprocessors.
_PROGRAMS = 264
_MOST_BLOCKS = 65535  # that a grid can have in its second direction


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
            "AHEAD": _ahead(features, views),
            "GROUP_BLOCK": self.group_block,
            "BLOCK_D": self.block_d,
            "ACC": accumulator(dtype),
            "num_warps": self.num_warps,
        }

    def blocks(self, batch: int, features: int, views: int) -> tuple[int, int]:
        """Tiles of columns, and blocks of groups: of the most groups there can be, where they are not counted."""
        most_groups = batch // views if views else batch
        return triton.cdiv(features, self.block_d), triton.cdiv(most_groups, self.group_block)


def _ahead(features: int, views: int) -> int:
    """Members that are asked for at a time.

    All of them, up to a number, but not where rows do not start at multiples of 16 bytes: so many narrow loads would
    not fit into the registers.
    """
    if 0 < views <= _WHOLE and (features % 16 == 0 or interpreted()):
        return views
    return min(_AHEAD, views or _AHEAD)


def forward_tile(features: int, dtype: torch.dtype, views: int) -> Tile:
    """Tile of the forward pass.

    A thread loads 16 bytes of a member at a time, the widest load there is, and a row's part of a tile is two lines of
    the cache, 256 bytes. With eight groups a thread has one such load of each member, which leaves the registers to
    have all members under way in four programs or more of a multiprocessor. Where more than eight members are asked for
    at a time, there are half as many groups. Layers with few features get tiles half as wide, so that there are more
    programs, and for wide dtypes twice as high, so that 16 groups still are one step.
    """
    if interpreted():  # a program costs about 10 ms whatever its width: few wide ones
        return Tile(8, min(1024, triton.next_power_of_2(features)), 4)
    narrow = features <= 16384
    groups = 16 if narrow and dtype.itemsize > 2 else 8
    return _tile(groups, 128 if narrow else 256, dtype, features, views)


def backward_tile(features: int, dtype: torch.dtype, views: int) -> Tile:
    """Tile of the backward pass, likewise: it holds all members and their gradients from elsewhere in registers."""
    return forward_tile(features, dtype, views) if interpreted() else _tile(8, 256, dtype, features, views)


def _tile(groups: int, width: int, dtype: torch.dtype, features: int, views: int) -> Tile:
    """So many groups, or half of them, and bytes of a row; and as many threads as this has loads of 16 bytes."""
    if _ahead(features, views) > 8:
        groups //= 2
    return Tile(groups, width // dtype.itemsize, groups * width // (16 * 32))


def forward_grid(tile: Tile, batch: int, features: int, views: int) -> tuple[int, int]:
    """Tiles of columns, and splits of the groups: more than one where D is small and B large."""
    tiles, blocks = tile.blocks(batch, features, views)
    return tiles, max(1, min(_PROGRAMS // tiles, blocks))


def backward_grid(tile: Tile, batch: int, features: int, views: int) -> tuple[int, int]:
    """Tiles of columns, and programs that share the blocks of groups.

    One a block where groups are counted; else most blocks may be empty, and a program each would take longer to start
    than the others to work: four times as many programs as a large GPU needs to be busy, or one a tile.
    """
    tiles, blocks = tile.blocks(batch, features, views)
    return tiles, min(blocks, _MOST_BLOCKS if views else triton.cdiv(4 * _PROGRAMS, tiles))
