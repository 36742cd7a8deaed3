"""Who is timed over B, M, D and L: forward and backward of Eq. 4 from given activations, by each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dainv.objective import Objective, combine, layer_weights, weigh
from dainv_bench.peers import PEERS, Peer
from dainv_bench.roundings import FLOAT32, LOSS_ROUNDINGS, refuse_beyond
from dainv_bench.scaling.axes import Point
from dainv_kernels import Groups, invariance_loss

Features = Mapping[str, Tensor]  # layer -> (B, D), requires grad
OfFeatures = Callable[[Features], Objective]

# Errors against float64 on features without a common mean, where the Gram identity loses little; the bounds of
# overhead, which says where they come from.
_LOSS_BOUND = LOSS_ROUNDINGS * FLOAT32
_GRADIENT_BOUND = 1600 * FLOAT32


@dataclass(frozen=True)
class Method:
    """One way to compute Eq. 4 of given activations.

    Attributes:
        description: what it does, in one line.
        prepare: made for a batch's shape, on a device; what is done here is not timed.
    """

    description: str
    prepare: Callable[[Point, torch.device], OfFeatures]


def make_features(point: Point, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Normal features, half of whose variance the M views of an image share; the same on every device."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, point.D, generator=generator)

    return {
        f"layer{number + 1}": (normal(point.B // point.M).repeat_interleave(point.M, dim=0) + normal(point.B))
        .to(device)
        .requires_grad_()
        for number in range(point.L)
    }


def forward_backward(of_features: OfFeatures, features: Features) -> tuple[Tensor, ...]:
    """Gradients of all features."""
    return torch.autograd.grad(of_features(features).total, list(features.values()))


class Exact(NamedTuple):
    """A layer's loss, and the gradient of its term in Eq. 4; float64."""

    loss: Tensor
    gradient: Tensor


def exact(features: Features, point: Point) -> list[Exact]:
    """Of each layer, by the closed form in float64."""
    groups = Groups.consecutive(point.B // point.M, point.M, next(iter(features.values())).device)
    found = []
    for x, weight in zip(features.values(), layer_weights(point.L), strict=True):
        exact_x = x.detach().double().requires_grad_()
        loss = invariance_loss(exact_x, groups, backend="torch")
        found.append(Exact(loss.detach(), *torch.autograd.grad(weight * loss, exact_x)))
    return found


def check(name: str, of_features: OfFeatures, features: Features, truth: list[Exact], point: Point) -> None:
    """Compare a method's losses and gradients with the exact ones.

    Raises:
        UserError: further off than float32 explains.
    """
    objective = of_features(features)
    gradients = torch.autograd.grad(objective.total, list(features.values()))
    for layer, gradient, one in zip(features, gradients, truth, strict=True):
        loss_error = float((objective.invariance[layer].detach() - one.loss).abs() / one.loss)
        gradient_error = float((gradient - one.gradient).norm() / one.gradient.norm())
        refuse_beyond(_LOSS_BOUND, loss_error, name, f"{point}, {layer}", "the loss")
        refuse_beyond(_GRADIENT_BOUND, gradient_error, name, f"{point}, {layer}", "the gradient")


def _ours(point: Point, device: torch.device) -> OfFeatures:
    groups = Groups.consecutive(point.B // point.M, point.M, device)
    weights, no_task = layer_weights(point.L), torch.zeros((), device=device)
    return lambda features: combine(no_task, features, groups, weights)


def _peer(peer: Peer) -> Method:
    def prepare(point: Point, device: torch.device) -> OfFeatures:
        loss = peer.layer_loss(torch.arange(point.B // point.M, device=device).repeat_interleave(point.M))
        weights, no_task = layer_weights(point.L), torch.zeros((), device=device)
        return lambda features: weigh(no_task, {name: loss(rows) for name, rows in features.items()}, weights)

    return Method(peer.description, prepare)


METHODS = {
    "ours": Method("dainv's objective by the fastest backend", _ours),
    **{name: _peer(PEERS[name]) for name in ("published", "closed-form")},
}
