"""The closed form of Eq. 3 in torch: sums of squares around means, column tile by column tile.

For any set S with mean m, the sum of d over its pairs is 2 |S| times the sum of squares around m, so Eq. 3 needs only
W_k (around each group's mean) and T (around the batch mean). Everything is shifted before it is summed: by the group's
first sample inside a group, by the first sample of the batch between groups. See kernels/README.md for the derivation.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dainv_kernels.groups import Segments
from dainv_kernels.layout import accumulator_dtype

# Elements of the tiles that a pass works on at a time. 16 MiB of float32 keep a tile's second reading in the cache of a
# CPU while there are few enough tiles for the cost of starting threads not to show; on a GPU launches are dear and one
# tile is best.
_CACHED = {"cpu": 1 << 22, "cuda": 1 << 31}
_FORWARD, _BACKWARD = 2, 4  # tiles side by side: features and differences; these, the upstream gradient and the result


class _Block(NamedTuple):
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


class _Plan(NamedTuple):
    """A row order in which groups of equal size are neighbours, and the blocks that result."""

    order: Tensor | None  # None: the rows already lie in this order
    blocks: list[_Block]
    weights: Tensor  # (blocks,) float64, of a group of each block
    n_groups: int

    def sizes(self) -> Tensor:
        """``(blocks,)`` float64: samples in a group of each block."""
        return self.weights.new_tensor([block.size for block in self.blocks])


def _plan(segments: Segments) -> _Plan:
    """Group sizes are read on the host here, except for consecutive equal groups, which need no look at the data."""
    batch = len(segments.rows)
    if segments.views:
        n_groups = batch // segments.views
        return _Plan(None, [_Block(0, 0, n_groups, segments.views)], segments.weights[:1], n_groups)
    sizes = segments.bounds.diff()
    sizes = sizes[sizes > 0]
    by_size = torch.argsort(sizes, stable=True)
    order: Tensor | None = segments.rows[torch.argsort(sizes.repeat_interleave(sizes), stable=True)]
    if torch.equal(order, torch.arange(batch, device=sizes.device)):  # type: ignore[arg-type]
        order = None
    blocks, first_row, first_group = [], 0, 0
    distinct, counts = sizes[by_size].unique_consecutive(return_counts=True)
    for size, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        blocks.append(_Block(first_row, first_group, count, size))
        first_row += size * count
        first_group += count
    return _Plan(order, blocks, segments.weights[by_size[counts.cumsum(0) - 1]], first_group)


class _Tiles:
    """Walks over the columns of rows, a tile at a time, and lends it scratch memory."""

    def __init__(self, rows: Tensor, plan: _Plan, side_by_side: int) -> None:
        self.dtype = accumulator_dtype(rows.dtype)
        self._keeps = rows.device.type == "cpu" and type(rows) is Tensor  # no memory is shared with fake tensors
        self._order = plan.order
        self._heights = {"difference": len(rows), "ordered": len(rows), "total": plan.n_groups, "offset": plan.n_groups}
        elements = _CACHED.get(rows.device.type, 1 << 31) // side_by_side
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


def _shift(members: Tensor, difference: Tensor, total: Tensor) -> Tensor:
    """Write differences from each group's first sample, and their sum over the group; gives the first sample."""
    torch.sub(members, members.narrow(1, 0, 1), out=difference)
    torch.sum(difference, 1, out=total)
    return members.select(1, 0)


def _sum_of_squares(table: Tensor, out: Tensor) -> None:
    """Of a table, which is overwritten. A norm would read it once, but adds one after the other, not in pairs."""
    torch.sum(table.square_(), (0, 1), out=out)


def forward(
    rows: Tensor,
    segments: Segments,
    activation: Tensor | None = None,
    bias: Tensor | None = None,
    inner: int = 1,
    n_channels: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and the few numbers the backward pass needs.

    Args:
        rows: ``(B, D)`` features.
        segments: the groups.
        activation: ``(B, D)``, written if given: the ReLU of the rows, of which the loss is then taken. May be
            ``rows`` itself.
        bias: ``(C,)``, added before the ReLU if given; that of column d is ``bias[d // inner % n_channels]``.
        inner: see bias.
        n_channels: C.

    Returns:
        The 0-d loss; ``(2,)`` float64 weighted within-group and total sums of squares; ``(D,)`` batch mean, as an
        offset from the batch's first sample.
    """
    plan = _plan(segments)
    tiles = _Tiles(rows, plan, _FORWARD)
    mean_offset = torch.empty(rows.shape[1], dtype=tiles.dtype, device=rows.device)
    if bias is not None:
        bias = bias[torch.arange(rows.shape[1], device=rows.device) // inner % n_channels]
    sizes = plan.sizes()
    # Squares of the differences from the group's first sample, of their sum over the group, and of the offset of the
    # group's mean from that of the batch: summed up for each tile and block, they meet in float64 at the end.
    parts = []
    source = rows if activation is None else activation
    walk = zip(*map(tiles.of, (rows, activation, bias, source, mean_offset)), strict=False)
    for x, activated, tile_bias, tile, tile_mean in walk:
        if activated is not None:
            _activate(x, activated, tile_bias)
        origin = tile[0].to(tiles.dtype)
        tile = tiles.ordered(tile)
        part = torch.empty(3, len(plan.blocks), dtype=tiles.dtype, device=rows.device)
        of_difference, of_total, of_offset = (row.unbind() for row in part.unbind())
        differences, totals, offsets = (
            tiles.scratch(name, tile.shape[1], rows.device) for name in ("difference", "total", "offset")
        )
        for number, block in enumerate(plan.blocks):
            difference, total = block.rows(differences), block.groups(totals)
            first = _shift(block.members(tile), difference.unflatten(0, (block.n_groups, block.size)), total)
            torch.sub(first, origin, out=block.groups(offsets)).add_(total, alpha=1 / block.size)
            _sum_of_squares(difference, of_difference[number])
            _sum_of_squares(total, of_total[number])
        _mean_over_samples(offsets, plan, len(rows), tile_mean)
        offsets.sub_(tile_mean)
        for number, block in enumerate(plan.blocks):
            _sum_of_squares(block.groups(offsets), of_offset[number])
        parts.append(part)
    of_difference, of_total, of_offset = torch.stack(parts).sum(0, dtype=torch.float64)
    # sum (x - x0)^2 - n (m - x0)^2 loses at most a factor 1 + n: n (m - x0)^2 is at most n times the result
    within = of_difference - of_total / sizes
    sums = torch.stack([plan.weights.dot(within), (within + sizes * of_offset).sum()])
    sums = torch.where(sums[1] < torch.finfo(tiles.dtype).tiny, 0.0, sums)
    loss = torch.where(sums[1] == 0, 0.0, sums[0] / sums[1])
    return loss.to(tiles.dtype), sums, mean_offset


def _activate(x: Tensor, out: Tensor, bias: Tensor | None) -> None:
    if bias is not None:
        x = torch.add(x, bias, out=out)
    torch.clamp_min(x, 0, out=out)


def _mean_over_samples(offsets: Tensor, plan: _Plan, batch: int, out: Tensor) -> None:
    """The mean of all samples from the means of groups."""
    if len(plan.blocks) == 1:
        torch.mean(offsets, 0, out=out)
        return
    out.zero_()
    for block in plan.blocks:
        out.add_(block.groups(offsets).sum(0), alpha=block.size / batch)


def backward(
    grad_loss: Tensor,
    rows: Tensor,
    segments: Segments,
    sums: Tensor,
    mean_offset: Tensor,
    out: Tensor,
    upstream: Tensor | None = None,
    relu: bool = False,
) -> None:
    """Gradient of the loss: ``2 g / T * (weight_k (f_i - m_k) - L (f_i - m))``, on deviations throughout.

    Args:
        grad_loss: 0-d upstream gradient g.
        rows: ``(B, D)`` features.
        segments: the groups.
        sums: from :func:`forward`.
        mean_offset: from :func:`forward`.
        out: ``(B, D)``, written: the gradient, in the dtype of the features.
        upstream: ``(B, D)`` gradient of the features from elsewhere, to be added; may be ``out`` itself.
        relu: the rows are the output of a ReLU, through which the gradient is then taken.
    """
    plan = _plan(segments)
    tiles = _Tiles(rows, plan, _BACKWARD)
    slopes, of_totals, of_batch_mean = _factors(grad_loss, sums, plan, tiles.dtype)
    inverse = None if plan.order is None else torch.argsort(plan.order)
    walk = zip(*map(tiles.of, (rows, mean_offset, out, upstream, rows if relu else None)), strict=False)
    for tile, tile_mean, written, added, activation in walk:
        origin = tile[0].to(tiles.dtype)
        tile = tiles.ordered(tile)
        gradient, totals, constants = (
            tiles.scratch(name, tile.shape[1], rows.device) for name in ("difference", "total", "offset")
        )
        for block, slope, of_total in zip(plan.blocks, slopes, of_totals, strict=True):
            difference, total, constant = block.members(gradient), block.groups(totals), block.groups(constants)
            first = _shift(block.members(tile), difference, total)
            torch.sub(first, origin, out=constant).sub_(tile_mean).mul_(of_batch_mean).addcmul_(total, of_total)
            torch.addcmul(constant[:, None], difference, slope, out=difference)
        if inverse is not None:
            ordered = tiles.scratch("ordered", gradient.shape[1], rows.device)
            gradient = torch.index_select(gradient, 0, inverse, out=ordered)
        _write(gradient, written, added, activation)


def _write(gradient: Tensor, out: Tensor, upstream: Tensor | None, activation: Tensor | None) -> None:
    """Add what comes from upstream, and take the sum through the ReLU that gave the activation."""
    if activation is None:
        if upstream is None:
            out.copy_(gradient)
        else:
            torch.add(gradient, upstream, out=out)
        return
    if upstream is not None:
        gradient.add_(upstream)
    if gradient.dtype != out.dtype:
        gradient = out.copy_(gradient)
    torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=out)


def _factors(
    grad_loss: Tensor, sums: Tensor, plan: _Plan, dtype: torch.dtype
) -> tuple[Sequence[Tensor], Sequence[Tensor], Tensor]:
    """Of the gradient ``slope (f - f0) + a sum_i (f_i - f0) + b (f0 - m)``, f0 and i being of the same group.

    Returns:
        Slope and a of each block, and b.
    """
    weighted, total = sums
    scale = torch.where(total == 0, 0.0, 2 * grad_loss.to(torch.float64) / total)
    loss = torch.where(total == 0, 0.0, weighted / total)
    slopes, of_totals = scale * (plan.weights - loss), -scale * plan.weights / plan.sizes()
    return slopes.to(dtype).unbind(), of_totals.to(dtype).unbind(), (-scale * loss).to(dtype)


def differentiable_gradient(grad_loss: Tensor, rows: Tensor, segments: Segments) -> Tensor:
    """The gradient of :func:`backward` as a graph of torch operations, for derivatives of it. Slow, any order.

    Args:
        grad_loss: 0-d upstream gradient.
        rows: ``(B, D)`` features.
        segments: the groups.

    Returns:
        ``(B, D)`` gradient in the dtype of the features.
    """
    dtype = accumulator_dtype(rows.dtype)
    group = segments.ids()
    sizes, weights = segments.bounds.diff(), segments.weights.to(dtype)
    x = rows.to(dtype)
    x = x - x[:1].detach()
    means = torch.zeros_like(x).index_add(0, group, x) / sizes.clamp(min=1)[:, None]
    from_group_mean, from_batch_mean = x - means[group], x - x.mean(0)
    weight = weights[group][:, None]
    weighted, total = (from_group_mean.square() * weight).sum(), from_batch_mean.square().sum()
    constant = total == 0
    total = torch.where(constant, 1.0, total)
    scale = torch.where(constant, 0.0, 2 * grad_loss.to(dtype) / total)
    return (scale * (weight * from_group_mean - weighted / total * from_batch_mean)).to(rows.dtype)
