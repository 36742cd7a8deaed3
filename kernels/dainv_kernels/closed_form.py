"""The closed form of Eq. 3 in torch: sums of squares around means, column tile by column tile.

For any set S with mean m, the sum of d over its pairs is 2 |S| times the sum of squares around m, so Eq. 3 needs only
W_k (around each group's mean) and T (around the batch mean). Everything is shifted before it is summed: by the group's
first sample inside a group, by the first sample of the batch between groups. See kernels/README.md for the derivation.
"""

from __future__ import annotations

import threading
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
    """Groups of one size that lie next to each other in the row order."""

    first_row: int
    first_group: int
    n_groups: int
    size: int

    def members(self, tile: Tensor) -> Tensor:
        """The groups' part of a tile, as ``(n_groups, size, columns)``."""
        return tile[self.first_row : self.first_row + self.n_groups * self.size].unflatten(0, (self.n_groups, -1))

    def groups(self, table: Tensor) -> Tensor:
        """The groups' rows of a table that has one row a group."""
        return table[self.first_group : self.first_group + self.n_groups]


class _Plan(NamedTuple):
    """A row order in which groups of equal size are neighbours, and the blocks that result."""

    order: Tensor | None  # None: the rows already lie in this order
    blocks: list[_Block]
    sizes: Tensor  # (groups, 1) float64, in the order of the blocks
    weights: Tensor  # (groups, 1) float64, likewise


def _plan(segments: Segments) -> _Plan:
    """Group sizes are read on the host here, except for consecutive equal groups, which need no look at the data."""
    batch = len(segments.rows)
    if segments.views:
        n_groups = batch // segments.views
        weights = segments.weights[:n_groups, None]
        return _Plan(None, [_Block(0, 0, n_groups, segments.views)], torch.full_like(weights, segments.views), weights)
    sizes = segments.bounds.diff()
    sizes = sizes[sizes > 0]
    by_size = torch.argsort(sizes, stable=True)
    order: Tensor | None = segments.rows[torch.argsort(sizes.repeat_interleave(sizes), stable=True)]
    if torch.equal(order, torch.arange(batch, device=sizes.device)):  # type: ignore[arg-type]
        order = None
    sizes, weights = sizes[by_size], segments.weights[by_size]
    blocks, first_row, first_group = [], 0, 0
    distinct, counts = sizes.unique_consecutive(return_counts=True)
    for size, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        blocks.append(_Block(first_row, first_group, count, size))
        first_row += size * count
        first_group += count
    return _Plan(order, blocks, sizes[:, None].to(torch.float64), weights[:, None])


class _Tiles:
    """Walks over the columns of rows, a tile at a time, and lends it scratch memory."""

    def __init__(self, rows: Tensor, plan: _Plan, side_by_side: int) -> None:
        self.dtype = accumulator_dtype(rows.dtype)
        self._order = plan.order
        batch, features = rows.shape
        elements = _CACHED.get(rows.device.type, 1 << 31) // side_by_side
        self._width = min(features, max(1, elements // batch))
        self.bounds = [(start, min(start + self._width, features)) for start in range(0, features, self._width)]
        self._shapes = {"difference": batch, "ordered": batch, "total": len(plan.sizes), "offset": len(plan.sizes)}

    def scratch(self, name: str, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Memory for one tile, overwritten with the next: as wide as ``like``, as high as its name says."""
        height, width = self._shapes[name], like.shape[-1]
        return _memory(name, height * self._width, dtype or self.dtype, like.device)[: height * width].view(height, -1)

    def ordered(self, tile: Tensor) -> Tensor:
        """The rows of a tile in the order of the plan, in the accumulator's dtype."""
        if self._order is not None:
            tile = torch.index_select(tile, 0, self._order, out=self.scratch("ordered", tile, tile.dtype))
        return tile.to(self.dtype)


_kept = threading.local()


def _memory(name: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory that a thread keeps on a CPU, where the first touch of a page costs more than several passes over it."""
    if device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    kept: Tensor | None = getattr(_kept, f"{name} {dtype}", None)
    if kept is None or len(kept) < size:
        with torch.inference_mode(False):
            kept = torch.empty(size, dtype=dtype)
        setattr(_kept, f"{name} {dtype}", kept)
    return kept


def _shift(members: Tensor, difference: Tensor, total: Tensor) -> Tensor:
    """Write differences from each group's first sample, and their sum over the group; gives the first sample."""
    first = members[:, 0]
    torch.sub(members, first[:, None], out=difference)
    torch.sum(difference, 1, out=total)
    return first


def _sum_of_squares(rows: Tensor, out: Tensor) -> None:
    """Of each row, which is overwritten. A norm would read it once, but adds one after the other, not in pairs."""
    torch.sum(rows.square_(), -1, out=out)


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
    batch, n_groups = len(rows), len(plan.sizes)
    mean_offset = torch.empty(rows.shape[1], dtype=tiles.dtype, device=rows.device)
    # For each tile, squares of the differences from the group's first sample, of their sum, and of the offset of the
    # group's mean from that of the batch; they meet in float64 when all tiles are done.
    n_tiles = len(tiles.bounds)
    of_difference = torch.empty(n_tiles, batch, dtype=tiles.dtype, device=rows.device)
    of_total, of_offset = torch.empty(2, n_tiles, n_groups, dtype=tiles.dtype, device=rows.device)
    shares = (plan.sizes / batch).to(tiles.dtype)
    source = rows if activation is None else activation
    if bias is not None:
        bias = bias[torch.arange(rows.shape[1], device=rows.device) // inner % n_channels]
    for number, (start, stop) in enumerate(tiles.bounds):
        if activation is not None:
            _activate(rows[:, start:stop], activation[:, start:stop], None if bias is None else bias[start:stop])
        tile = tiles.ordered(source[:, start:stop])
        origin = source[0, start:stop].to(tiles.dtype)
        differences, totals, offsets = (tiles.scratch(name, tile) for name in ("difference", "total", "offset"))
        for block in plan.blocks:
            total = block.groups(totals)
            first = _shift(block.members(tile), block.members(differences), total)
            torch.sub(first, origin, out=block.groups(offsets)).add_(total, alpha=1 / block.size)
        _sum_of_squares(differences, of_difference[number])
        _sum_of_squares(totals, of_total[number])
        tile_mean = torch.sum(torch.mul(offsets, shares, out=totals), 0, out=mean_offset[start:stop])
        _sum_of_squares(offsets.sub_(tile_mean), of_offset[number])
    squares = of_difference.sum(0, dtype=torch.float64)[:, None]
    of_group = torch.cat([block.members(squares).sum(1) for block in plan.blocks])
    # sum (x - x0)^2 - n (m - x0)^2 loses at most a factor 1 + n: n (m - x0)^2 is at most n times the result
    within = of_group - of_total.sum(0, dtype=torch.float64)[:, None] / plan.sizes
    total = within + plan.sizes * of_offset.sum(0, dtype=torch.float64)[:, None]
    sums = torch.stack([(plan.weights * within).sum(), total.sum()])
    loss = torch.where(sums[1] == 0, 0.0, sums[0] / sums[1])
    return loss.to(tiles.dtype), sums, mean_offset


def _activate(x: Tensor, out: Tensor, bias: Tensor | None) -> None:
    if bias is not None:
        x = torch.add(x, bias, out=out)
    torch.clamp_min(x, 0, out=out)


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
    slope, of_total, of_batch_mean = (factor.to(tiles.dtype) for factor in _factors(grad_loss, sums, plan))
    inverse = None if plan.order is None else torch.argsort(plan.order)
    activation = rows if relu else None
    for start, stop in tiles.bounds:
        tile = tiles.ordered(rows[:, start:stop])
        origin = rows[0, start:stop].to(tiles.dtype)
        gradient, totals, constants = (tiles.scratch(name, tile) for name in ("difference", "total", "offset"))
        for block in plan.blocks:
            difference, total, constant = (block.members(gradient), block.groups(totals), block.groups(constants))
            first = _shift(block.members(tile), difference, total)
            torch.sub(first, origin, out=constant).sub_(mean_offset[start:stop]).mul_(of_batch_mean)
            constant.addcmul_(total, block.groups(of_total))
            torch.addcmul(constant[:, None], difference, block.groups(slope)[:, None], out=difference)
        if inverse is not None:
            gradient = torch.index_select(gradient, 0, inverse, out=tiles.scratch("ordered", gradient))
        _write(gradient, out[:, start:stop], *(t if t is None else t[:, start:stop] for t in (upstream, activation)))


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


def _factors(grad_loss: Tensor, sums: Tensor, plan: _Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Of the gradient ``slope (f - f0) + a sum_i (f_i - f0) + b (f0 - m)``, f0 and i being of the same group."""
    weighted, total = sums
    scale = torch.where(total == 0, 0.0, 2 * grad_loss.to(torch.float64) / total)
    loss = torch.where(total == 0, 0.0, weighted / total)
    return scale * (plan.weights - loss), -scale * plan.weights / plan.sizes, -scale * loss


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
