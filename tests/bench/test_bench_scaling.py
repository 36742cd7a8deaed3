from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from bench_helpers import last
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from torch import Tensor

from dainv import UserError
from dainv.objective import Objective, layer_weights
from dainv_bench.cli import main
from dainv_bench.scaling import figure
from dainv_bench.scaling.axes import AXES, Point
from dainv_bench.scaling.figure import scaling_figure
from dainv_bench.scaling.fit import fit_growth
from dainv_bench.scaling.objectives import METHODS, Method, check, exact, forward_backward, make_features
from dainv_bench.scaling.plans import plan_for
from dainv_bench.scaling.ranks import DESCRIPTIONS, GLOBAL, LOCAL, Ranks, of_whole_batch
from dainv_bench.scaling.results import AxisResult, MethodResult, ScalingResult
from dainv_bench.scaling.settings import ScalingSettings
from dainv_bench.scaling.suite import measure
from dainv_bench.scaling.summary import summarise
from dainv_bench.summary import summary_markdown
from dainv_kernels import Groups, invariance_loss
from dainv_kernels.backends import choose_backend

CPU = torch.device("cpu")
POINT = Point(B=12, M=3, D=7, L=2)
TINY: dict[str, Any] = {
    "values": {"B": (8, 12, 16), "M": (2, 4), "D": (4, 6), "L": (1, 2), "N": (4, 6), "ranks": (1, 2)},
    "batch_size": 16,
    "views": 4,
    "features": 5,
    "layers": 1,
    "width": 0.1,
    "repeats": 1,
    "rounds": 3,
    "device": "cpu",
}
OPTIONS = ["--batch-size", "16", "--views", "4", "--features", "5", "--rounds", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def result() -> ScalingResult:
    return last(measure(ScalingSettings(**TINY)))


def test_a_power_law_is_found() -> None:
    values = [2, 4, 8, 32]
    growth = fit_growth(values, [[3 * value**1.5] * 5 for value in values])
    assert growth is not None
    assert (growth["exponent"], growth["milliseconds_at_one"]) == pytest.approx((1.5, 3))
    assert (growth["low"], growth["high"]) == pytest.approx((1.5, 1.5))


def test_the_interval_is_that_of_the_rounds() -> None:
    values, noise = [1, 10], np.random.default_rng(0).lognormal(sigma=0.3, size=(2, 9))
    samples = (np.array([[1.0], [10.0]]) * noise).tolist()
    growth = fit_growth(values, samples)
    assert growth is not None
    medians = np.median(samples, axis=1)
    assert growth["exponent"] == pytest.approx(np.log10(medians[1] / medians[0]))
    assert growth["low"] < growth["exponent"] < growth["high"]
    assert fit_growth(values, samples) == growth
    # a slow round slows all values and says nothing about growth: rounds are drawn whole
    drift = fit_growth(values, [[1.0, 2, 4, 8, 16], [10.0, 20, 40, 80, 160]])
    assert drift is not None
    assert (drift["low"], drift["high"]) == pytest.approx((1, 1))


def test_one_value_has_no_growth() -> None:
    assert fit_growth([4], [[1.0, 2, 3]]) is None


@pytest.mark.parametrize("name", list(METHODS))
def test_each_method_computes_eq_4(name: str) -> None:
    features = make_features(POINT, 0, CPU)
    check(name, METHODS[name].prepare(POINT, CPU), features, exact(features, POINT), POINT)
    gradients = forward_backward(METHODS[name].prepare(POINT, CPU), features)
    groups = Groups.consecutive(4, 3, CPU)
    total = sum(
        weight * invariance_loss(x, groups, backend="reference")
        for x, weight in zip(features.values(), layer_weights(2), strict=True)
    )
    assert isinstance(total, Tensor)
    for gradient, expected in zip(gradients, torch.autograd.grad(total, list(features.values())), strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_wrong_method_is_refused(what: str) -> None:
    right, features = METHODS["closed-form"].prepare(POINT, CPU), make_features(POINT, 0, CPU)

    def wrong(features: Any) -> Objective:
        found = right(features)
        if what == "loss":
            return found._replace(invariance={**found.invariance, "layer2": 1.001 * found.invariance["layer2"]})
        return found._replace(total=1.001 * found.total)

    with pytest.raises(UserError, match=rf"nothing timed: mine disagrees at .*: the {what} is off by 1.0e-03"):
        check("mine", wrong, features, exact(features, POINT), POINT)


def test_what_is_written_is_what_was_measured(result: ScalingResult) -> None:
    assert set(json.loads(json.dumps(result, allow_nan=False))) == set(ScalingResult.__annotations__)
    assert list(result["axes"]) == list(AXES)
    assert result["interrupted"] is False
    for name, axis in result["axes"].items():
        assert set(axis) == set(AxisResult.__annotations__)
        assert axis["values"] == list(TINY["values"][name])
        run = {method: one for method, one in axis["methods"].items() if one["not_run"] is None}
        works = sorted(f"{method} {value}" for method in run for value in axis["values"])
        assert [sorted(order) for order in axis["orders"]] == [works] * 3
        for one in axis["methods"].values():
            assert set(one) == set(MethodResult.__annotations__)
        for one in run.values():
            assert [len(samples) for samples in one["milliseconds"]] == [3] * len(axis["values"])
            assert one["median_milliseconds"] == [median(samples) for samples in one["milliseconds"]]
            assert one["growth"] == fit_growth(axis["values"], one["milliseconds"])


def test_ours_is_the_fastest_backend_and_ranks_are_local_and_global(result: ScalingResult) -> None:
    assert result["settings"]["backend"] == choose_backend("auto", torch.empty(1))
    assert f"({result['settings']['backend']})" in summarise(result).legend[0]
    assert list(result["axes"]["B"]["methods"]) == ["ours", "published", "closed-form"]
    ranks = result["axes"]["ranks"]["methods"]
    assert list(ranks) == [LOCAL, GLOBAL] == ["local statistics", "global statistics"]
    assert all(one["not_run"] is None for axis in result["axes"].values() for one in axis["methods"].values())


def test_ranks_are_not_run_on_a_gpu_and_say_why() -> None:
    settings = ScalingSettings(**{**TINY, "axes": ("ranks",)})
    with plan_for("ranks", settings, torch.device("cuda")) as plan:
        assert plan.works == {}
        assert "on a CPU only" in str(plan.not_run)
        assert list(plan.methods) == [LOCAL, GLOBAL]


def test_the_rest_stays_fixed(result: ScalingResult) -> None:
    assert result["axes"]["B"]["fixed"] == {"M": 4, "D": 5, "L": 1}
    assert result["axes"]["D"]["fixed"] == {"B": 16, "M": 4, "L": 1}
    assert result["axes"]["ranks"]["fixed"] == {"B": 16, "M": 4, "D": 5, "L": 1}


def test_ranks_work_together_and_end_together() -> None:
    with Ranks(2, Point(B=16, M=4, D=3, L=1), seed=0) as ranks:
        for method in DESCRIPTIONS:
            ranks(method)
        processes = [process._process for process in ranks._processes]
        assert all(process.is_alive() for process in processes)
        processes[0].kill()
        with pytest.raises(UserError, match="a process ended early"):
            ranks(GLOBAL)
    assert not any(process.is_alive() for process in processes)


def test_statistics_of_parts_are_not_those_of_the_whole_batch() -> None:
    part = Point(B=8, M=4, D=3, L=1)
    of_all = [make_features(part, seed, CPU) for seed in range(2)]
    local = METHODS["ours"].prepare(part, CPU)
    check(LOCAL, local, of_all[0], exact(of_all[0], part), part)
    with pytest.raises(UserError, match="global statistics disagrees"):
        check(GLOBAL, local, of_all[0], of_whole_batch(of_all, 0, part), part)


@pytest.mark.parametrize(("ranks", "reason"), [(3, "cannot share 16 samples equally"), (4, "is no batch of two")])
def test_a_batch_that_cannot_be_shared(ranks: int, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Ranks(ranks, Point(B=16, M=4, D=3, L=1), seed=0)


@pytest.mark.parametrize("form", ["svg", "png"])
def test_figure_is_the_same_every_time(result: ScalingResult, form: str) -> None:
    read = json.loads(json.dumps(result))
    first = scaling_figure(result, form)
    assert scaling_figure(read, form) == first
    if form == "svg":
        assert b"<dc:date>" not in first
        ElementTree.fromstring(first)


def test_points_and_lines_are_where_the_numbers_are(result: ScalingResult) -> None:
    axes = Figure().add_subplot()
    axis = result["axes"]["B"]
    figure._panel(axes, "B", axis)
    one = axis["methods"]["published"]
    label = f"published, exponent {one['growth']['exponent']:.2f}"  # type: ignore[index]
    points = next(line for line in axes.lines if line.get_label() == label)
    assert list(points.get_xdata()) == axis["values"]  # type: ignore[arg-type]
    assert list(points.get_ydata()) == pytest.approx(one["median_milliseconds"])  # type: ignore[arg-type]
    fitted = axes.lines[axes.lines.index(points) + 1]
    slope = np.polyfit(np.log(fitted.get_xdata()), np.log(fitted.get_ydata()), 1)[0]
    assert slope == pytest.approx(one["growth"]["exponent"])  # type: ignore[index]
    low, high = axes.get_ylim()
    assert high / low >= 9.99


def test_what_was_not_run_is_said_and_not_drawn(result: ScalingResult) -> None:
    axis = result["axes"]["B"]
    methods = {
        name: {**one, "not_run": "no GPU", "milliseconds": [], "median_milliseconds": [], "growth": None}
        for name, one in axis["methods"].items()
    }
    empty: Any = {**result, "axes": {"B": {**axis, "methods": methods}}}
    ElementTree.fromstring(scaling_figure(empty, "svg"))
    assert "- `ours`, `published`, `closed-form` not run (B): no GPU\n" in summary_markdown(summarise(empty))


def invoke(*options: str) -> Result:
    return CliRunner().invoke(main, ["scaling", *OPTIONS, *options])


@pytest.mark.usefixtures("_elsewhere")
def test_an_axis_is_named_once_with_its_ends() -> None:
    found = invoke("--axes", "B,D", "--values", "B=8,16", "--values", "D=3,4,12288", "--out", "one.json")
    assert found.exit_code == 0, found.output
    table = [line for line in found.output.splitlines() if line[:1] == "│"]
    assert [line[:12] for line in table if line.startswith(("│ B", "│ D"))] == ["│ B 8…16    ", "│ D 3…12288 "]
    written = json.loads(Path("one.json").read_text())
    assert list(written["axes"]) == ["B", "D"]
    assert summary_markdown(summarise(written)).count("| `published` |") == 2


@pytest.mark.usefixtures("_elsewhere")
def test_ctrl_c_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def prepare(point: Point, device: torch.device) -> Any:
        right = METHODS["ours"].prepare(point, device)

        def pressed(features: Any) -> Objective:
            nonlocal calls
            calls += 1
            # B: a check, a warm-up and 3 rounds at 2 values are 10 calls; M then a check, a warm-up and a round
            if calls == 10 + 2 * 3 + 1:
                raise KeyboardInterrupt
            return right(features)

        return pressed

    monkeypatch.setitem(METHODS, "closed-form", Method("interrupted", prepare))
    found = invoke("--axes", "B,M,D", "--values", "B=8,16", "--values", "M=2,4", "--out", "one.json")
    assert found.exit_code == 130
    assert "interrupted before all was measured" in found.output
    written = json.loads(Path("one.json").read_text())
    assert written["interrupted"] is True
    assert list(written["axes"]) == ["B"]
    assert len(written["axes"]["B"]["orders"]) == 3


@pytest.mark.usefixtures("_elsewhere")
def test_nothing_is_written_for_a_wrong_method(monkeypatch: pytest.MonkeyPatch) -> None:
    right = METHODS["published"]

    def prepare(point: Point, device: torch.device) -> Any:
        of_features = right.prepare(point, device)
        return lambda features: of_features({name: rows.detach() * rows for name, rows in features.items()})

    monkeypatch.setitem(METHODS, "published", replace(right, prepare=prepare))
    found = invoke("--axes", "B", "--values", "B=8,16", "--out", "one.json")
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.startswith("error: nothing timed: published disagrees at Point(B=8")
    assert not Path("one.json").exists()
