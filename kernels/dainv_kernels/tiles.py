"""Tiles of columns that fit into a cache, and the scratch memory that is kept for them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from dainv_kernels.blocks import Plan
from dainv_kernels.layout import accumulator_dtype

# Elements of the tiles that a pass works on at a time. 16 MiB of float32 keep a tile's second reading in the cache of a
# CPU while there are few enough tiles for the cost of starting threads not to show; on a GPU launches are dear and one
# tile is best.
CACHED = {"cpu": 1 << 22, "cuda": 1 << 31}


class Tiles:
    """Walks over the columns of rows, a tile at a time, and lends it scratch memory.

    Args:
        rows: ``(B, D)``.
        plan: the order that rows of a tile are brought into.
        side_by_side: how many tiles are looked at in turns, of a tensor each.
    """

    def __init__(self, rows: Tensor, plan: Plan, side_by_side: int) -> None:
        self.dtype = accumulator_dtype(rows.dtype)
        self._keeps = rows.device.type == "cpu" and type(rows) is Tensor  # no memory is shared with fake tensors
        self._order = plan.order
        self._heights = {"difference": len(rows), "ordered": len(rows), "total": plan.n_groups, "offset": plan.n_groups}
        elements = CACHED.get(rows.device.type, 1 << 31) // side_by_side
        self.width = min(rows.shape[1], max(1, elements // len(rows)))

    def of(self, tensor: Tensor | None) -> Iterator[Tensor | None]:
        """The tiles of a tensor with the columns of the rows; of None, Nones."""
        return itertools.repeat(None) if tensor is None else iter(tensor.split(self.width, -1))

    def scratch(self, name: str, columns: int, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        """Memory for one tile, overwritten with the next: as high as its name says."""
        height, dtype = self._heights[name], dtype or self.dtype
        size = height * self.width
        memory = _memory(name, size, dtype) if self._keeps else torch.empty(size, dtype=dtype, device=device)
        return memory[: height * columns].view(height, columns)

    def ordered(self, tile: Tensor) -> Tensor:
        """The rows of a tile in the order of the plan, in the accumulator's dtype."""
        if self._order is not None:
            out = self.scratch("ordered", tile.shape[1], tile.device, tile.dtype)
            tile = torch.index_select(tile, 0, self._order, out=out)
        return tile.to(self.dtype)


_kept = threading.local()


def _memory(name: str, size: int, dtype: torch.dtype) -> Tensor:
    """Memory that a thread keeps on a CPU, where the first touch of a page costs more than several passes over it."""
    kept: Tensor | None = getattr(_kept, f"{name} {dtype}", None)
    if kept is None or len(kept) < size:
        with torch.inference_mode(False):
            kept = torch.empty(size, dtype=dtype, device="cpu")
        setattr(_kept, f"{name} {dtype}", kept)
    return kept
