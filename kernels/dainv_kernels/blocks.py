"""Groups of equal size side by side, so that torch can work on all of them at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dainv_kernels.groups import Segments


class Block(NamedTuple):
    """Groups of one size, which have one weight, next to each other in the row order."""

    first_row: int
    first_group: int
    n_groups: int
    size: int

    def rows(self, tile: Tensor) -> Tensor:
        """The block's rows of a tile."""
        return tile.narrow(0, self.first_row, self.n_groups * self.size)

    def members(self, tile: Tensor) -> Tensor:
        """The same as ``(n_groups, size, columns)``."""
        return self.rows(tile).unflatten(0, (self.n_groups, self.size))

    def groups(self, table: Tensor) -> Tensor:
        """The block's rows of a table that has one row a group."""
        return table.narrow(0, self.first_group, self.n_groups)


class Plan(NamedTuple):
    """A row order in which groups of equal size are neighbours, and the blocks that result."""

    order: Tensor | None  # None: the rows already lie in this order
    blocks: list[Block]
    weights: Tensor  # (blocks,) float64, of a group of each block
    n_groups: int

    @classmethod
    def of(cls, segments: Segments) -> Plan:
        """The plan of the groups of a batch.

        Group sizes are read on the host here, except for consecutive equal groups, which need no look at the data.
        """
        batch = len(segments.rows)
        if segments.views:
            n_groups = batch // segments.views
            return cls(None, [Block(0, 0, n_groups, segments.views)], segments.weights[:1], n_groups)
        sizes = segments.bounds.diff()
        sizes = sizes[sizes > 0]
        by_size = torch.argsort(sizes, stable=True)
        order: Tensor | None = segments.rows[torch.argsort(sizes.repeat_interleave(sizes), stable=True)]
        if torch.equal(order, torch.arange(batch, device=sizes.device)):  # type: ignore[arg-type]
            order = None
        blocks, first_row, first_group = [], 0, 0
        distinct, counts = sizes[by_size].unique_consecutive(return_counts=True)
        for size, count in zip(distinct.tolist(), counts.tolist(), strict=True):
            blocks.append(Block(first_row, first_group, count, size))
            first_row += size * count
            first_group += count
        return cls(order, blocks, segments.weights[by_size[counts.cumsum(0) - 1]], first_group)

    def sizes(self) -> Tensor:
        """``(blocks,)`` float64: samples in a group of each block."""
        # Written by the device: a list would be copied from the host, which a GPU waits for and a graph cannot hold.
        return torch.cat([self.weights.new_full((1,), block.size) for block in self.blocks])
