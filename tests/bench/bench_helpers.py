"""What the tests of the benchmarks share: tiny problems, and arms that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from dainv.objective import Objective, layer_weights
from dainv_bench import peers
from dainv_bench.kernels.cases import Case
from dainv_bench.overhead.arms import ARMS, Arm, OnActivations, Problem, eq4

_T = TypeVar("_T")

CPU = torch.device("cpu")
TINY = {"batch_size": 8, "views": 4, "width": 0.1, "rounds": 3, "warmup": 1, "device": "cpu"}
SMALL = Case(12, 3, (4, 5, 5))
KERNEL_METHODS = ("torch", "relu+torch", "relu", "published", "cdist", "closed-form")
TINY_OPTIONS = [text for name, value in TINY.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def last(results: Iterable[_T]) -> _T:
    """The whole result of a suite, which gives what there is on the way to it."""
    *_, result = results
    return result


def problem(n_images: int = 2, views: int = 4) -> Problem:
    return Problem(n_images, views, layer_weights(9), CPU)


def eq3_by_pairs(features: Tensor, ids: Tensor) -> Tensor:
    """The mean of d over distinct pairs of a group over its mean over distinct pairs, pair by pair, in float64."""
    x = features.flatten(1).double()
    d = (x[:, None] - x[None, :]).square().mean(-1)
    distinct = ~torch.eye(len(x), dtype=torch.bool)
    return d[(ids[:, None] == ids[None, :]) & distinct].mean() / d[distinct].mean()


def altered(name: str, alter: Callable[[OnActivations, Tensor, Mapping[str, Tensor]], Objective]) -> Arm:
    """The closed form with something done to it."""

    def prepare(given: Problem) -> OnActivations:
        right = eq4(peers.closed_form(given.ids), given.weights)
        return lambda task, activations: alter(right, task, activations)

    return Arm(name, "wrong on purpose", prepare)


def _one_percent_off_at_layer3(right: OnActivations, task: Tensor, activations: Mapping[str, Tensor]) -> Objective:
    total, task, losses = right(task, activations)
    return Objective(total, task, {**losses, "layer3": 1.01 * losses["layer3"]})


def _no_gradient_from_layer7(right: OnActivations, task: Tensor, activations: Mapping[str, Tensor]) -> Objective:
    return right(task, {**activations, "layer7": activations["layer7"].detach()})


WRONG_LOSS = altered("wrong-loss", _one_percent_off_at_layer3)
WRONG_GRADIENT = altered("wrong-gradient", _no_gradient_from_layer7)


def interrupted_in_round(number: int, warmup: int = 1) -> Arm:
    """An arm during whose step of that round, counted from 1, Ctrl-C is pressed."""
    calls = 0

    def press(right: OnActivations, task: Tensor, activations: Mapping[str, Tensor]) -> Objective:
        nonlocal calls
        calls += 1
        if calls == 1 + warmup + number:  # one call checks that the arms agree
            raise KeyboardInterrupt
        return right(task, activations)

    return altered("interrupted", press)


def add_arm(monkeypatch: pytest.MonkeyPatch, arm: Arm) -> None:
    monkeypatch.setitem(ARMS, arm.name, arm)
