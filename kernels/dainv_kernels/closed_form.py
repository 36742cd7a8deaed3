"""The closed form of Eq. 3 in torch: sums of squares around means, column tile by column tile.

For any set S with mean m, the sum of d over its pairs is 2 |S| times the sum of squares around m, so Eq. 3 needs only
W_k (around each group's mean) and T (around the batch mean). Everything is shifted before it is summed: by the group's
first sample inside a group, by the first sample of the batch between groups. See kernels/README.md for the derivation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dainv_kernels.layout import accumulator_dtype

# Elements of a column tile. 4 MiB of float32 keeps a tile's second reading in the cache of a CPU while there are few
# enough tiles for the cost of starting threads not to show; on a GPU launches are dear and one tile is best.
_TILE_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 30}


class _EqualGroups(NamedTuple):
    """Groups of one size that lie next to each other in the row order."""

    first_row: int
    first_group: int
    n_groups: int
    size: int

    def of(self, tile: Tensor) -> Tensor:
        """View the groups' part of a tile as ``(n_groups, size, columns)``."""
        stop = self.first_row + self.n_groups * self.size
        return tile[self.first_row : stop].unflatten(0, (self.n_groups, self.size))


class _Plan(NamedTuple):
    """A row order in which groups of equal size are neighbours, and the blocks that result."""

    order: Tensor | None  # None: the rows already lie in this order
    blocks: list[_EqualGroups]
    group_order: Tensor | None  # None: the groups already lie in this order


def _plan(rows: Tensor, bounds: Tensor, views: int) -> _Plan:
    """Group sizes are read on the host here, except for consecutive equal groups, which need no look at the data."""
    batch = len(rows)
    if views:
        return _Plan(None, [_EqualGroups(0, 0, batch // views, views)], None)
    sizes = bounds.diff()
    sizes = sizes[sizes > 0]
    by_size = torch.argsort(sizes, stable=True)
    group_order: Tensor | None = None
    order: Tensor | None = rows
    if not torch.equal(by_size, torch.arange(len(sizes), device=sizes.device)):
        group_order = by_size
        order = rows[torch.argsort(sizes.repeat_interleave(sizes), stable=True)]
    if torch.equal(order, torch.arange(batch, device=rows.device)):  # type: ignore[arg-type]
        order = None
    blocks, first_row, first_group = [], 0, 0
    distinct, counts = sizes.sort().values.unique_consecutive(return_counts=True)
    for size, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        blocks.append(_EqualGroups(first_row, first_group, count, size))
        first_row += size * count
        first_group += count
    return _Plan(order, blocks, group_order)


def _tiles(rows: Tensor) -> list[tuple[int, int]]:
    batch, features = rows.shape
    width = max(1, _TILE_ELEMENTS.get(rows.device.type, 1 << 30) // batch)
    return [(start, min(start + width, features)) for start in range(0, features, width)]


def _load(rows: Tensor, start: int, stop: int, order: Tensor | None) -> Tensor:
    tile = rows[:, start:stop]
    if order is not None:
        tile = tile.index_select(0, order)
    return tile.to(accumulator_dtype(rows.dtype))


def _shifted(x: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Differences from each group's first sample, that sample, and the offset of the group's mean from it."""
    first = x[:, 0]
    difference = torch.sub(x, first[:, None], out=out)
    return difference, first, difference.mean(1)


def forward(
    rows: Tensor, order: Tensor, bounds: Tensor, weights: Tensor, views: int, activation: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and the few numbers the backward pass needs.

    Args:
        rows: ``(B, D)`` features.
        order: ``(B,)`` samples sorted by group.
        bounds: ``(B + 1,)`` where each group starts in that order.
        weights: ``(B,)`` float64 factor of each group's sum of squares.
        views: M for consecutive equal groups, else 0.
        activation: ``(B, D)``, written if given: the ReLU of the rows, of which the loss is then taken.

    Returns:
        The 0-d loss; ``(2,)`` float64 weighted within-group and total sums of squares; ``(D,)`` batch mean, as an
        offset from the batch's first sample.
    """
    plan = _plan(order, bounds, views)
    dtype = accumulator_dtype(rows.dtype)
    batch, features = rows.shape
    weights = weights if plan.group_order is None else weights[plan.group_order]
    sums = torch.zeros(2, dtype=torch.float64, device=rows.device)
    mean_offset = torch.empty(features, dtype=dtype, device=rows.device)
    source = rows if activation is None else activation
    buffer: Tensor | None = None
    for start, stop in _tiles(rows):
        if activation is not None:
            torch.clamp_min(rows[:, start:stop], 0, out=activation[:, start:stop])
        tile = _load(source, start, stop, plan.order)
        origin = source[0, start:stop].to(dtype)
        if buffer is None or buffer.shape != tile.shape:
            buffer = torch.empty(tile.shape, dtype=dtype, device=rows.device)
        group_offsets = []
        for block in plan.blocks:
            difference, first, mean = _shifted(block.of(tile), block.of(buffer))
            # sum (x - x0)^2 - n (m - x0)^2 loses at most a factor 1 + n: n (m - x0)^2 is at most n times the result
            # (torch adds up pairwise in sum() but one after the other in norms, which would cost a digit)
            within = difference.square_().flatten(1).sum(1).to(torch.float64)
            within -= block.size * mean.square().sum(1).to(torch.float64)
            sums[0] += within @ weights[block.first_group : block.first_group + block.n_groups]
            sums[1] += within.sum()
            group_offsets.append((block.size, (first - origin).add_(mean)))
        tile_mean = torch.stack([size * offset.sum(0) for size, offset in group_offsets]).sum(0) / batch
        mean_offset[start:stop] = tile_mean
        for size, offset in group_offsets:
            sums[1] += size * (offset - tile_mean).square_().sum().to(torch.float64)
    loss = torch.where(sums[1] == 0, 0.0, sums[0] / sums[1])
    return loss.to(dtype), sums, mean_offset


def backward(
    grad_loss: Tensor,
    rows: Tensor,
    order: Tensor,
    bounds: Tensor,
    weights: Tensor,
    sums: Tensor,
    mean_offset: Tensor,
    views: int,
    grad_activation: Tensor | None = None,
) -> Tensor:
    """Gradient of the loss: ``2 g / T * (weight_k (f_i - m_k) - L (f_i - m))``, on deviations throughout.

    Args:
        grad_loss: 0-d upstream gradient g.
        rows: ``(B, D)`` features.
        order: as in :func:`forward`.
        bounds: as in :func:`forward`.
        weights: as in :func:`forward`.
        sums: from :func:`forward`.
        mean_offset: from :func:`forward`.
        views: as in :func:`forward`.
        grad_activation: ``(B, D)`` upstream gradient of the activation, if the rows are one: both gradients are then
            taken through the ReLU.

    Returns:
        ``(B, D)`` gradient in the dtype of the features.
    """
    plan = _plan(order, bounds, views)
    dtype = accumulator_dtype(rows.dtype)
    weights = weights if plan.group_order is None else weights[plan.group_order]
    scale = torch.where(sums[1] == 0, 0.0, 2 * grad_loss.to(torch.float64) / sums[1])
    loss = torch.where(sums[1] == 0, 0.0, sums[0] / sums[1])
    grad = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    in_place = plan.order is None and rows.dtype == dtype
    buffer: Tensor | None = None
    for start, stop in _tiles(rows):
        tile = _load(rows, start, stop, plan.order)
        origin = rows[0, start:stop].to(dtype)
        if in_place:
            target = grad[:, start:stop]
        else:
            if buffer is None or buffer.shape != tile.shape:
                buffer = torch.empty(tile.shape, dtype=dtype, device=rows.device)
            target = buffer
        for block in plan.blocks:
            difference, first, mean = _shifted(block.of(tile), block.of(target))
            weight = weights[block.first_group : block.first_group + block.n_groups, None]
            from_batch_mean = (first - origin).sub_(mean_offset[start:stop])
            constant = (-scale * weight).to(dtype) * mean - (scale * loss).to(dtype) * from_batch_mean
            difference.mul_((scale * (weight - loss)).to(dtype)[:, :, None]).add_(constant[:, None])
        written = grad[:, start:stop]
        if plan.order is not None:
            written.index_copy_(0, plan.order, target.to(rows.dtype))
        elif not in_place:
            written.copy_(target)
        if grad_activation is not None:
            written.add_(grad_activation[:, start:stop])
            torch.ops.aten.threshold_backward.grad_input(written, rows[:, start:stop], 0, grad_input=written)
    return grad


def differentiable(rows: Tensor, order: Tensor, bounds: Tensor, weights: Tensor) -> Tensor:
    """The same loss as a graph of torch operations, for derivatives of the gradient. Slow, but differentiable.

    Args:
        rows: ``(B, D)`` features.
        order: as in :func:`forward`.
        bounds: as in :func:`forward`.
        weights: as in :func:`forward`.

    Returns:
        0-d loss.
    """
    dtype = accumulator_dtype(rows.dtype)
    sizes = bounds.diff()
    group = torch.searchsorted(bounds[1:].contiguous(), torch.arange(len(order), device=order.device), right=True)
    x = rows.to(dtype)[order]
    x = x - x[:1].detach()
    totals = torch.zeros_like(x).index_add(0, group, x)
    means = totals / sizes.clamp(min=1)[:, None]
    within = ((x - means[group]).square().sum(1) * weights.to(dtype)[group]).sum()
    total = (x - x.mean(0)).square().sum()
    constant = total == 0
    return torch.where(constant, within * 0, within / torch.where(constant, 1, total))
