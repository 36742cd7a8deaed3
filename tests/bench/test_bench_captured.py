"""Steps recorded as a graph against eager ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_helpers import CPU, add_arm, altered, last, problem
from click.testing import CliRunner
from torch import Tensor

from dainv.objective import Objective
from dainv.training.captured import CapturedStep
from dainv.training.optimizer import capturable_sgd
from dainv_bench.captured import suite as captured_suite
from dainv_bench.captured.forms import distance, training_step
from dainv_bench.captured.results import broken_forms
from dainv_bench.captured.settings import CAPTURED, EAGER, CapturedSettings
from dainv_bench.cli import main
from dainv_bench.overhead.arms import ARMS, BASELINE, OnActivations, objective_of
from dainv_bench.statistics import median_interval, paired_overhead
from dainv_bench.workload import Batch, make_batches, make_network


def step_and_parameters(captured: bool, device: torch.device = CPU) -> tuple[Any, list[Tensor], torch.optim.SGD]:
    network = make_network(0.1, True, 0, device)
    optimizer = capturable_sgd(network, 0.05, 0.9)
    criterion = ARMS["closed-form"].prepare(problem())
    step = training_step(lambda views, labels: objective_of(criterion, network, views, labels), optimizer)
    if captured:
        step = CapturedStep(step, batches(device)[0], module=network, optimizer=optimizer)
    return step, [*network.parameters(), *network.buffers()], optimizer


def batches(device: torch.device = CPU) -> list[Batch]:
    return make_batches(3, 2, 4, 0, device)


def test_a_captured_step_is_the_eager_step() -> None:
    (eager, expected, _), (captured, got, _) = step_and_parameters(False), step_and_parameters(True)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))  # as if nothing had been warmed up
    for batch in batches():
        objectives = eager(*batch), captured(*batch)
        assert torch.equal(objectives[0].total, objectives[1].total)
        assert list(objectives[1].invariance) == [f"layer{n}" for n in range(1, 10)]
        assert not objectives[1].total.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert not captured.recorded


def test_state_from_before_the_recording_is_put_back() -> None:
    eager, expected, _ = step_and_parameters(False)
    network = make_network(0.1, True, 0, CPU)
    optimizer = capturable_sgd(network, 0.05, 0.9)
    criterion = ARMS["closed-form"].prepare(problem())
    step = training_step(lambda views, labels: objective_of(criterion, network, views, labels), optimizer)
    step(*batches()[0])  # momentum there is, and recording must not change it
    captured = CapturedStep(step, batches()[2], module=network, optimizer=optimizer)
    eager(*batches()[0])
    for batch in batches()[1:]:
        eager(*batch)
        captured(*batch)
    assert all(torch.equal(a, b) for a, b in zip([*network.parameters(), *network.buffers()], expected, strict=True))


TINY = {"batch_size": 8, "views": 4, "width": 0.1, "rounds": 3, "device": "cpu", "compiled": ()}


def test_steps_are_timed_against_the_fastest_baseline() -> None:
    result = last(captured_suite.measure(CapturedSettings(**TINY, arms=("closed-form", "ours-fused"))))
    steps = result["steps"]
    assert list(steps) == ["baseline, eager", "baseline, captured", "closed-form, captured", "ours-fused, captured"]
    assert steps["ours-fused, captured"]["not_run"]
    assert steps["ours-fused, captured"]["milliseconds"] == []
    medians = {name: steps[name]["median_milliseconds"] for name in list(steps)[:2]}
    assert result["best_baseline"] == min(medians, key=lambda name: medians[name])
    assert steps["baseline, eager"]["update_error"] is None
    assert steps["closed-form, captured"]["update_error"] == 0
    overhead = paired_overhead(
        steps["closed-form, captured"]["milliseconds"], steps[result["best_baseline"]]["milliseconds"]
    )
    assert steps["closed-form, captured"]["overhead_percent"] == median_interval(overhead)
    assert steps["baseline, captured"]["overhead_percent"] is None
    assert len(result["orders"]) == 3
    json.dumps(result, allow_nan=False)


def test_a_captured_step_that_misses_its_batch_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(self: CapturedStep[Objective], *inputs: Tensor) -> Objective:
        return self._step(*self._inputs)

    monkeypatch.setattr(CapturedStep, "__call__", stale)
    result = last(captured_suite.measure(CapturedSettings(**TINY, arms=())))
    wrong = result["steps"]["baseline, captured"]
    assert "not the eager step: its update is off by" in str(wrong["not_run"])
    assert wrong["milliseconds"] == []
    assert broken_forms(result) == ["baseline, captured"]
    assert result["best_baseline"] == "baseline, eager"


def test_arms_that_disagree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    add_arm(
        monkeypatch,
        altered("nan", lambda right, task, x: right(task * torch.nan, {n: f * torch.nan for n, f in x.items()})),
    )
    result = last(captured_suite.measure(CapturedSettings(**TINY, arms=("nan", "closed-form"))))
    wrong, right = result["steps"]["nan, captured"], result["steps"]["closed-form, captured"]
    assert str(wrong["not_run"]).startswith("nothing timed: nan disagrees at layer1")
    assert (wrong["milliseconds"], len(right["milliseconds"])) == ([], 3)
    assert broken_forms(result) == ["nan, captured"]


def test_an_arm_that_cannot_be_recorded_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def late(right: OnActivations, task: Tensor, activations: Mapping[str, Tensor]) -> Objective:
        nonlocal calls
        calls += 1
        if calls > 1:  # the first one only shows that the arms agree
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        return right(task, activations)

    add_arm(monkeypatch, altered("late", late))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "compiled"]
    path = tmp_path / "one.json"
    done = CliRunner().invoke(main, ["captured", *options, "--compiled=", "--arms=late,closed-form", f"--out={path}"])
    assert done.exit_code == 1
    assert "late, captured not run: RuntimeError: operation not permitted\n" in done.output
    result = json.loads(path.read_text())
    assert broken_forms(result) == ["late, captured"]
    assert len(result["steps"]["closed-form, captured"]["milliseconds"]) == 3


def test_which_forms_an_arm_has() -> None:
    settings = CapturedSettings(compiled=("closed-form",))
    assert settings.forms_of(BASELINE) == [EAGER, CAPTURED]
    assert settings.forms_of("closed-form") == [CAPTURED, "compiled and captured"]


@pytest.mark.gpu
def test_a_recorded_step_is_the_eager_step_and_reads_its_learning_rate() -> None:
    device = torch.device("cuda")
    networks = [make_network(0.25, True, 0, device) for _ in range(2)]
    optimizers = [capturable_sgd(network, 0.05, 0.9) for network in networks]
    given = batches(device)

    def plain(network: torch.nn.Module, optimizer: torch.optim.SGD) -> Any:
        def objective(views: Tensor, labels: Tensor) -> Objective:
            task = torch.nn.functional.cross_entropy(network(views), labels)
            return Objective(task, task, {})

        return training_step(objective, optimizer)

    eager, step = (plain(network, optimizer) for network, optimizer in zip(networks, optimizers, strict=True))
    captured = CapturedStep(step, given[0], module=networks[1], optimizer=optimizers[1])
    assert captured.recorded
    start = copy.deepcopy(networks[0])
    for number, batch in enumerate(given):
        eager(*batch)
        captured(*batch)
        if number == 1:
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"].mul_(0.1)
    assert distance(*networks) <= 1e-2 * distance(networks[0], start)


@pytest.mark.gpu
@pytest.mark.parametrize("arm", ["published", "closed-form", "ours", "ours-fused"])
def test_every_arm_can_be_recorded(arm: str) -> None:
    settings = CapturedSettings(**{**TINY, "device": "cuda", "width": 0.25}, arms=(arm,))
    step = last(captured_suite.measure(settings))["steps"][f"{arm}, captured"]
    assert step["not_run"] is None
    assert len(step["milliseconds"]) == 3
