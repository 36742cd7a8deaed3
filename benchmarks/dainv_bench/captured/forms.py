"""A training step as it is called, recorded as a CUDA graph, or compiled and recorded; and that all make one update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dainv.models.allcnn import AllCNNC
from dainv.objective import Objective
from dainv.settings import TrainSettings
from dainv.training.captured import CapturedStep
from dainv.training.optimizer import capturable_sgd
from dainv_bench.captured.settings import COMPILED, EAGER
from dainv_bench.overhead.arms import Arm, Problem, objective_of
from dainv_bench.workload import Batch

Step = Callable[..., Objective]


def make_step(arm: Arm, form: str, problem: Problem, network: AllCNNC, batch: Batch) -> tuple[Step, AllCNNC]:
    """A step in one form, and the copy of the network that it trains.

    Args:
        arm: what it minimises.
        form: eager, captured, or compiled and captured.
        problem: what the arm has to know.
        network: where to start from.
        batch: of the shapes and layouts of all later ones.
    """
    published = TrainSettings()
    trained = copy.deepcopy(network)
    optimizer = capturable_sgd(trained, published.learning_rate, published.momentum)
    criterion = arm.prepare(problem)

    def objective(views: Tensor, labels: Tensor) -> Objective:
        return objective_of(criterion, trained, views, labels)

    step = training_step(torch.compile(objective, dynamic=False) if form == COMPILED else objective, optimizer)
    return (step if form == EAGER else CapturedStep(step, batch, module=trained, optimizer=optimizer)), trained


def training_step(objective_of: Callable[..., Objective], optimizer: torch.optim.Optimizer) -> Step:
    """One update as a function of the batch: forward pass, loss, backward pass, optimizer.

    Args:
        objective_of: tensors of a batch to the objective; may be compiled.
        optimizer: of the parameters.

    Returns:
        The step. It returns the objective without its graph, so that nothing outlives the step.
    """

    def step(*batch: Tensor) -> Objective:
        optimizer.zero_grad(set_to_none=True)  # a backward pass then writes gradients instead of adding to them
        total, task, invariance = objective_of(*batch)
        total.backward()
        optimizer.step()
        return Objective(total.detach(), task.detach(), {name: loss.detach() for name, loss in invariance.items()})

    return step


def update_error(
    arm: Arm, step: Step, trained: AllCNNC, problem: Problem, network: AllCNNC, batches: Sequence[Batch]
) -> float:
    """How far two updates are from those of the eager step, relative to their size.

    Args:
        arm: what the step minimises.
        step: in another form; does two updates here.
        trained: the network that it trains.
        problem: what the arm has to know.
        network: where that one started from.
        batches: two or more.
    """
    eager, truth = make_step(arm, EAGER, problem, network, batches[0])
    for batch in batches[:2]:
        eager(*batch)
        step(*batch)
    return distance(trained, truth) / distance(truth, network)


@torch.no_grad()
def distance(one: AllCNNC, other: AllCNNC) -> float:
    """Between all parameters of two networks."""
    squares = [(a - b).double().square().sum() for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    return float(torch.stack(squares).sum().sqrt())
