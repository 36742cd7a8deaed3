"""Before any time is taken: do all arms compute the same losses and the same gradient?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from dainv.models.allcnn import AllCNNC
from dainv.objective import Objective
from dainv_bench import peers
from dainv_bench.overhead.arms import Arm, Problem, eq4, objective_of
from dainv_bench.roundings import (
    FLOAT32,
    GRADIENT_PER_KAPPA,
    LOSS_PER_KAPPA,
    LOSS_ROUNDINGS,
    kappa,
    refuse_beyond,
    refuse_dead_layers,
)
from dainv_bench.workload import Batch
from dainv_kernels.layout import sample_rows

# What float32 arithmetic may do to a loss and to the gradient of all parameters, relative to the truth below. "Seen"
# there and here is at initialisation, over widths, seeds, batch sizes, with and without batch normalisation.
_LOSS_BOUND = LOSS_ROUNDINGS * FLOAT32  # 1e-5
_LOSS_PER_KAPPA = LOSS_PER_KAPPA * FLOAT32
# The gradient then goes through the float32 backward pass of nine layers, which rounds as well. Seen: up to 350.
_GRADIENT_BOUND = 1600 * FLOAT32  # 1e-4
_GRADIENT_PER_KAPPA = GRADIENT_PER_KAPPA * FLOAT32


class Agreement(TypedDict):
    """Relative errors of an arm and what it was allowed; losses by layer."""

    loss_error: dict[str, float]
    loss_bound: dict[str, float]
    gradient_error: float
    gradient_bound: float


class _Outcome(NamedTuple):
    """Losses of the layers and gradients of the parameters, by name."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]


def _outcome(network: AllCNNC, objective: Objective) -> _Outcome:
    """Losses and gradients, by one backward pass."""
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(objective.total, list(parameters.values()))
    return _Outcome(
        {name: float(loss.detach()) for name, loss in objective.invariance.items()},
        dict(zip(parameters, (gradient.double() for gradient in gradients), strict=True)),
    )


def _truth(network: AllCNNC, batch: Batch, problem: Problem) -> tuple[_Outcome, dict[str, float]]:
    """Forward and backward in float32, the closed form between them in float64; and each layer's kappa."""
    logits, activations = network.forward_taps(batch.views)
    task = functional.cross_entropy(logits, batch.labels).double()
    criterion = eq4(peers.closed_form(problem.ids), problem.weights)
    exact = criterion(task, {name: features.double() for name, features in activations.items()})
    return _outcome(network, exact), {name: kappa(sample_rows(features)) for name, features in activations.items()}


def _norm(gradients: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """No TF32: its three digits would hide what is looked for. The timed steps keep torch's default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def check_agreement(
    arms: Iterable[Arm],
    problem: Problem,
    network: AllCNNC,
    batch: Batch,
    on_step: Callable[[str], None] = lambda _what: None,
) -> dict[str, Agreement]:
    """Compare arms, on the same parameters and the same batch, with the closed form in float64.

    The truth takes the activations of the same float32 network: in a float64 copy some units near zero change sign,
    which moves the gradient by far more (up to 5e-3 with batch normalisation) than what an arm does to it.

    Args:
        arms: those with the objective.
        problem: what they have to know.
        network: parameters to compare at; only running averages of batch normalisation change.
        batch: what to compare on.
        on_step: told after each arm what is going on.

    Returns:
        Arm -> errors and bounds.

    Raises:
        UserError: an arm is further off than float32 explains, and at which layer; or a layer is dead.
    """
    found: dict[str, Agreement] = {}
    with _exact_convolutions():
        truth, kappas = _truth(network, batch, problem)
        refuse_dead_layers(kappas)
        gradient_norm = _norm(truth.gradients.values())
        for arm in arms:
            got = _outcome(network, objective_of(arm.prepare(problem), network, batch.views, batch.labels))
            difference = {name: got.gradients[name] - truth.gradients[name] for name in truth.gradients}
            agreement = Agreement(
                loss_error={name: abs(got.losses[name] - loss) / loss for name, loss in truth.losses.items()},
                loss_bound={n: _LOSS_BOUND + arm.cancels * _LOSS_PER_KAPPA * k for n, k in kappas.items()},
                gradient_error=_norm(difference.values()) / gradient_norm,
                gradient_bound=_GRADIENT_BOUND + arm.cancels * _GRADIENT_PER_KAPPA * max(kappas.values()),
            )
            _refuse_disagreement(arm.name, agreement, difference)
            found[arm.name] = agreement
            on_step("checking that all arms agree")
    return found


def _refuse_disagreement(arm: str, agreement: Agreement, difference: dict[str, Tensor]) -> None:
    for layer, error in agreement["loss_error"].items():
        refuse_beyond(agreement["loss_bound"][layer], error, arm, layer, "the loss")
    by_layer: dict[str, list[Tensor]] = {}
    for name, gradient in difference.items():
        by_layer.setdefault(name.split(".")[0], []).append(gradient)
    worst = max(by_layer, key=lambda layer: _norm(by_layer[layer]))
    refuse_beyond(agreement["gradient_bound"], agreement["gradient_error"], arm, worst, "the gradient")
