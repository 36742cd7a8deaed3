from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from bench_helpers import last
from click.testing import CliRunner, Result
from torch import Tensor

from dainv import UserError
from dainv_bench.cli import main
from dainv_bench.scores import first, suite
from dainv_bench.scores.agreement import bounds_of, compare, kappas, truth
from dainv_bench.scores.arms import ARMS, Arm, Problem, Sigma, make_problem, published_scores
from dainv_bench.scores.memory import peak_above
from dainv_bench.scores.process import Ended, Process
from dainv_bench.scores.results import ArmResult, ScoresResult, SizeResult
from dainv_bench.scores.settings import ScoresSettings
from dainv_bench.scores.suite import measure
from dainv_bench.scores.summary import summarise
from dainv_bench.statistics import median_interval
from dainv_bench.summary import summary_markdown

CPU = torch.device("cpu")
TINY = {"sizes": (6, 9), "repeats": 2, "batch_size": 4, "width": 0.1, "rounds": 3, "device": "cpu"}
OPTIONS = ["--sizes", "6,9", "--repeats", "2", "--batch-size", "4", "--width", "0.1", "--rounds", "3"]
OPTIONS += ["--device", "cpu", "--limit", "1e9"]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from Linux")


def tiny_problem(n_images: int = 6) -> Problem:
    return make_problem(n_images, width=0.1, batch_norm=False, repeats=2, batch_size=4, seed=0, device=CPU)


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores without a process for each arm, which takes time and does not see what a test puts in place of an arm."""

    def run_apart(arm: Arm, make: Callable[[], Problem]) -> first.First:
        return first.First(arm.run(make()), None)

    monkeypatch.setattr(first, "run_apart", run_apart)
    monkeypatch.setattr(suite, "_CHECKED", 8)


@pytest.fixture(scope="module")
def result() -> ScoresResult:
    return last(measure(ScoresSettings(**TINY)))


def replace_arm(monkeypatch: pytest.MonkeyPatch, name: str, run: Callable[[Problem], Sigma | None]) -> None:
    monkeypatch.setitem(ARMS, name, replace(ARMS[name], run=run))


def test_published_is_eq_2_over_explicit_pairs() -> None:
    problem = tiny_problem()
    images = problem.images
    drawn = torch.stack(problem.draws())
    with torch.no_grad():
        original = problem.features(images)
        transformed = [problem.features(problem.transform.apply(images, one)) for one in drawn]

    def distance(a: Tensor, b: Tensor) -> float:
        return float((a.double() - b.double()).square().mean())

    sigma = published_scores(problem, torch.float64)
    assert list(sigma) == ["input", *problem.network.layer_names]
    for layer, rows in original.items():
        for i in range(6):
            others = sum(distance(rows[i], rows[j]) for j in range(6)) / 6
            for repeat in range(2):
                expected = 1 - distance(rows[i], transformed[repeat][layer][i]) / others
                assert sigma[layer][repeat, i] == pytest.approx(expected, abs=1e-5)


def test_streaming_makes_the_forward_passes_that_it_is_compared_with() -> None:
    problem = tiny_problem(10)
    seen: list[int] = []
    problem.network.register_forward_hook(lambda _network, inputs, _output: seen.append(len(inputs[0])))
    ARMS["forward"].run(problem)
    bare, seen[:] = list(seen), []
    ARMS["streaming"].run(problem)
    assert seen[0] == 2  # what the layers put out, before the work begins
    assert sorted(seen[1:]) == sorted(bare)
    assert sum(bare) == (2 + 2) * 10


def test_what_is_written_is_what_was_measured(result: ScoresResult) -> None:
    assert set(json.loads(json.dumps(result, allow_nan=False))) == set(ScoresResult.__annotations__)
    assert list(result["sizes"]) == ["6", "9"]
    assert result["interrupted"] is False
    for size in result["sizes"].values():
        assert set(size) == set(SizeResult.__annotations__)
        assert list(size["arms"]) == list(ARMS)
        assert [sorted(order) for order in size["orders"]] == [sorted(ARMS)] * 3
        forward = size["arms"]["forward"]["milliseconds"]
        for name, arm in size["arms"].items():
            assert set(arm) == set(ArmResult.__annotations__)
            assert arm["not_run"] is None
            assert len(arm["milliseconds"]) == 3
            assert arm["median_milliseconds"] == median(arm["milliseconds"])
            if name != "forward":
                ratio = np.asarray(arm["milliseconds"]) / np.asarray(forward)
                assert arm["ratio_to_forward"] == median_interval(ratio)
        assert size["arms"]["forward"]["ratio_to_forward"] is None
        streaming, augmentation = (size["arms"][name]["milliseconds"] for name in ("streaming", "augmentation"))
        left = (np.asarray(streaming) - np.asarray(augmentation)) / np.asarray(forward)
        assert size["streaming_without_augmentation"] == median_interval(left)


def test_agreement_is_recorded_before_any_time(result: ScoresResult) -> None:
    assert list(result["agreement"]) == ["streaming", "published"]
    layers = ["input", *(f"layer{number}" for number in range(1, 10))]
    for agreement in (*result["agreement"].values(), *(size["agreement"] for size in result["sizes"].values())):
        assert agreement is not None
        assert list(agreement) == layers
        for deviation in agreement.values():
            assert 0 <= deviation["error"] <= deviation["bound"] < 1e-4


def test_verdict_is_about_streaming_at_the_largest_size(result: ScoresResult) -> None:
    verdict = result["verdict"]
    assert verdict is not None
    assert verdict["n_images"] == 9
    assert verdict["ratio_to_forward"] == result["sizes"]["9"]["arms"]["streaming"]["ratio_to_forward"]
    assert verdict["limit"] == 1.25


@ON_LINUX
def test_memory_of_each_arm_is_its_own(result: ScoresResult) -> None:
    for size in result["sizes"].values():
        peaks = {name: arm["peak_memory_bytes"] for name, arm in size["arms"].items()}
        assert all(peak is not None and 0 < peak < 2**30 for peak in peaks.values())


@ON_LINUX
def test_peak_is_that_of_the_work_alone() -> None:
    mib = 2**20
    earlier = torch.ones(100 * mib)
    del earlier  # 400 MiB that this process held once
    held = torch.ones(10 * mib)

    def work() -> int:
        return len(torch.ones(15 * mib)) + len(held)

    answer, peak = peak_above(work)
    assert answer == 25 * mib
    assert peak is not None
    assert 55 * mib < peak < 90 * mib


def test_a_process_answers_and_passes_errors_on() -> None:
    with Process(partial, int) as process:
        assert process.ask("7") == 7
        with pytest.raises(ValueError, match="invalid literal"):
            process.ask("seven")


def test_a_killed_process_is_noticed() -> None:
    with Process(os._exit, 9) as process, pytest.raises(Ended):
        process.ask("anything")


@pytest.mark.parametrize("layer", ["input", "layer5"])
def test_one_wrong_score_is_refused(layer: str) -> None:
    problem = tiny_problem()
    exact, kappa = truth(problem), kappas(problem)
    bounds = bounds_of([ARMS["published"]], kappa)
    for wrong in (1.01 * exact[layer][1, 3], np.nan):
        altered = {name: values.copy() for name, values in exact.items()}
        altered[layer][1, 3] = wrong
        with pytest.raises(UserError, match=f"published disagrees at {layer}: "):
            compare("published", altered, exact, bounds)


def test_a_dead_layer_is_named() -> None:
    problem = tiny_problem()
    torch.nn.init.zeros_(problem.network.layer4.conv.weight)  # type: ignore[union-attr, arg-type]
    with pytest.raises(UserError, match="layer4 is dead"):
        kappas(problem)


@pytest.mark.usefixtures("_in_this_process")
def test_an_arm_beyond_the_memory_limit_says_so() -> None:
    held = ARMS["published"].nbytes(tiny_problem(9))
    assert held == 4 * (9 * sum(len(rows[0]) for rows in tiny_problem().features(tiny_problem().images).values()) + 81)
    found = last(measure(ScoresSettings(**{**TINY, "memory_limit": (held - 1) / 2**30})))
    assert found["sizes"]["6"]["arms"]["published"]["not_run"] is None
    skipped = found["sizes"]["9"]["arms"]["published"]
    assert "--memory-limit" in str(skipped["not_run"])
    assert skipped["milliseconds"] == []
    assert skipped["median_milliseconds"] is skipped["ratio_to_forward"] is None
    assert found["sizes"]["9"]["agreement"] is None
    assert "| 9 | `published` | not run |" in summary_markdown(summarise(found))


def invoke(*options: str) -> Result:
    return CliRunner().invoke(main, ["scores", *OPTIONS, *options])


@pytest.mark.usefixtures("_elsewhere", "_in_this_process")
def test_augmentation_is_shown_apart() -> None:
    found = invoke("--arms", "streaming,augmentation", "--out", "one.json")
    assert found.exit_code == 0, found.output
    assert "streaming without augmentation, N = 9: " in found.output
    assert "within the limit of 1e+09" in found.output
    written = json.loads(Path("one.json").read_text())
    assert list(written["sizes"]["9"]["arms"]) == ["forward", "streaming", "augmentation"]


@pytest.mark.usefixtures("_elsewhere", "_in_this_process")
def test_above_the_limit_is_a_failure() -> None:
    found = invoke("--arms", "streaming", "--limit", "1e-9", "--out", "one.json")
    assert found.exit_code == 1
    assert "above the limit of 1e-09" in found.output
    assert json.loads(Path("one.json").read_text())["verdict"]["verdict"] == "above"


@pytest.mark.usefixtures("_elsewhere", "_in_this_process")
def test_no_time_is_shown_for_a_wrong_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ARMS["streaming"].run

    def wrong(problem: Problem) -> Sigma:
        sigma = dict(right(problem) or {})
        return {**sigma, "layer7": 1 - 1.001 * (1 - sigma["layer7"])}

    replace_arm(monkeypatch, "streaming", wrong)
    found = invoke("--out", "one.json")
    assert found.exit_code == 1
    assert found.stdout == ""
    assert found.stderr.startswith("error: nothing timed: streaming disagrees at layer7: ")
    assert not Path("one.json").exists()


@pytest.mark.usefixtures("_elsewhere", "_in_this_process")
@pytest.mark.parametrize(
    ("call", "kept"),
    [(8, {"6": 4}), (10, {"6": 4, "9": 3})],  # a call for the scores at each size, then one a round
    ids=["whole sizes", "rounds"],
)
def test_ctrl_c_keeps_what_is_finished(call: int, kept: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def pressed(_problem: Problem) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt

    replace_arm(monkeypatch, "augmentation", pressed)
    found = invoke("--rounds", "4", "--arms", "augmentation", "--out", "one.json")
    assert found.exit_code == 130
    written = json.loads(Path("one.json").read_text())
    assert written["interrupted"] is True
    assert {name: len(size["orders"]) for name, size in written["sizes"].items()} == kept
    assert "interrupted before all was measured" in found.output
