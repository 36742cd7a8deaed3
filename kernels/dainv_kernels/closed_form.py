"""The closed form of Eq. 3 in torch: sums of squares around means, column tile by column tile.

For any set S with mean m, the sum of d over its pairs is 2 |S| times the sum of squares around m, so Eq. 3 needs only
W_k (around each group's mean) and T (around the batch mean). Everything is shifted before it is summed: by the group's
first sample inside a group, by the first sample of the batch between groups. See kernels/README.md for the derivation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dainv_kernels.blocks import Plan
from dainv_kernels.groups import Segments
from dainv_kernels.implementation import Gradient, Relu, Sums, activate
from dainv_kernels.tiles import Tiles

_FORWARD, _BACKWARD = 2, 4  # tiles side by side: features and differences; these, the upstream gradient and the result


def _shift(members: Tensor, difference: Tensor, total: Tensor) -> Tensor:
    """Write differences from each group's first sample, and their sum over the group; gives the first sample."""
    torch.sub(members, members.narrow(1, 0, 1), out=difference)
    torch.sum(difference, 1, out=total)
    return members.select(1, 0)


def _sum_of_squares(table: Tensor, out: Tensor) -> None:
    """Of a table, which is overwritten. A norm would read it once, but adds one after the other, not in pairs."""
    torch.sum(table.square_(), (0, 1), out=out)


def forward(rows: Tensor, segments: Segments, relu: Relu | None = None) -> Sums:
    """As :meth:`dainv_kernels.implementation.Implementation.forward`."""
    plan = Plan.of(segments)
    tiles = Tiles(rows, plan, _FORWARD)
    mean_offset = torch.empty(rows.shape[1], dtype=tiles.dtype, device=rows.device)
    activation, bias = (None, None) if relu is None else (relu.activation, relu.bias_of_columns())
    sizes = plan.sizes()
    # Squares of the differences from the group's first sample, of their sum over the group, and of the offset of the
    # group's mean from that of the batch: summed up for each tile and block, they meet in float64 at the end.
    parts = []
    source = rows if activation is None else activation
    walk = zip(*map(tiles.of, (rows, activation, bias, source, mean_offset)), strict=False)
    for x, activated, tile_bias, tile, tile_mean in walk:
        if activated is not None:
            activate(x, tile_bias, activated)
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
    within = (of_difference - of_total / sizes).clamp(min=0)  # below 0 where squares are no normal numbers
    sums = torch.stack([plan.weights.dot(within), (within + sizes * of_offset).sum()])
    sums = torch.where(sums[1] < torch.finfo(tiles.dtype).tiny, 0.0, sums)
    loss = torch.where(sums[1] == 0, 0.0, sums[0] / sums[1])
    return Sums(loss.to(tiles.dtype), sums, mean_offset)


def _mean_over_samples(offsets: Tensor, plan: Plan, batch: int, out: Tensor) -> None:
    """The mean of all samples from the means of groups."""
    if len(plan.blocks) == 1:
        torch.mean(offsets, 0, out=out)
        return
    out.zero_()
    for block in plan.blocks:
        out.add_(block.groups(offsets).sum(0), alpha=block.size / batch)


def backward(rows: Tensor, segments: Segments, sums: Tensor, mean_offset: Tensor, gradient: Gradient) -> None:
    """As :meth:`dainv_kernels.implementation.Implementation.backward`."""
    plan = Plan.of(segments)
    tiles = Tiles(rows, plan, _BACKWARD)
    slopes, of_totals, of_batch_mean = _factors(gradient.of_loss, sums, plan, tiles.dtype)
    inverse = None if plan.order is None else torch.argsort(plan.order)
    activation = rows if gradient.relu else None
    walk = zip(*map(tiles.of, (rows, mean_offset, gradient.out, gradient.upstream, activation)), strict=False)
    for tile, tile_mean, out, upstream, activated in walk:
        origin = tile[0].to(tiles.dtype)
        tile = tiles.ordered(tile)
        result, totals, constants = (
            tiles.scratch(name, tile.shape[1], rows.device) for name in ("difference", "total", "offset")
        )
        for block, slope, of_total in zip(plan.blocks, slopes, of_totals, strict=True):
            difference, total, constant = block.members(result), block.groups(totals), block.groups(constants)
            first = _shift(block.members(tile), difference, total)
            torch.sub(first, origin, out=constant).sub_(tile_mean).mul_(of_batch_mean).addcmul_(total, of_total)
            torch.addcmul(constant[:, None], difference, slope, out=difference)
        if inverse is not None:
            ordered = tiles.scratch("ordered", result.shape[1], rows.device)
            result = torch.index_select(result, 0, inverse, out=ordered)
        _write(result, out, upstream, activated)


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
    grad_loss: Tensor, sums: Tensor, plan: Plan, dtype: torch.dtype
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
