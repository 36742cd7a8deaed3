from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_results import BASELINE, EVERY, epochs, gpu_check, kernels, overhead, scaling, scores, write
from click.testing import CliRunner, Result

from dainv_bench.cli import main
from dainv_bench.compare.changes import changes_between
from dainv_bench.compare.differences import differences
from dainv_bench.compare.series import Key, Series, series_of
from dainv_bench.statistics import ratio_interval

pytestmark = pytest.mark.usefixtures("_elsewhere")


def run(a: dict[str, Any], b: dict[str, Any], *options: str) -> Result:
    paths = [str(write(Path(name), result)) for name, result in (("a.json", a), ("b.json", b))]
    return CliRunner().invoke(main, ["compare", *paths, *options])


def steady(**factors: float) -> dict[str, Any]:
    """An overhead result with next to no noise, arms slowed by factors."""
    result = overhead()
    for name, arm in result["arms"].items():
        if arm["milliseconds"]:
            factor = factors.get(name.replace("-", "_"), 1.0)
            arm["milliseconds"] = [factor * time for time in BASELINE]
    return result


def test_a_ratio_of_medians_and_its_interval() -> None:
    generator = np.random.default_rng(0)
    reference, samples = generator.normal(100, 1, 50), generator.normal(110, 1, 30)
    interval = ratio_interval(samples, reference)
    assert interval["median"] == np.median(samples) / np.median(reference)
    assert 1.09 < interval["low"] < interval["median"] < interval["high"] < 1.11
    assert interval == ratio_interval(samples, reference)
    # Both are resampled: noise in the reference alone widens it, too.
    noisy = ratio_interval([110.0] * 30, reference)
    assert noisy["low"] < noisy["high"]


def test_intervals_exclude_one_about_as_seldom_as_they_should() -> None:
    generator = np.random.default_rng(1)
    pairs = generator.normal(100, 3, (200, 2, 20))
    outside = sum(not one["low"] <= 1 <= one["high"] for one in (ratio_interval(a, b) for a, b in pairs))
    assert 0 < outside < 25  # 5 % of 200, and room for the bootstrap of a median


@pytest.mark.parametrize(("factor", "verdict"), [(1.2, "slower"), (0.8, "faster"), (1.0, ""), (1.009, ""), (0.991, "")])
def test_what_changed(factor: float, verdict: str) -> None:
    samples = [100 + 0.01 * number for number in range(20)]
    changes, alone = changes_between(
        {Key("", "one"): Series(samples, None)}, {Key("", "one"): Series([factor * time for time in samples], None)}
    )
    change = changes[Key("", "one")]
    assert change.verdict == verdict
    assert change.ratio["median"] == pytest.approx(factor)
    assert alone == {}


def test_what_noise_explains_is_no_change() -> None:
    one, other = [100.0, 150.0, 90.0, 140.0, 80.0], [110.0, 160.0, 95.0, 150.0, 85.0]
    changes, _ = changes_between({Key("", "one"): Series(one, None)}, {Key("", "one"): Series(other, None)})
    change = changes[Key("", "one")]
    assert change.ratio["median"] == pytest.approx(1.1)
    assert change.verdict == ""
    assert not change.slower_by(0)


def test_table_and_summary() -> None:
    done = run(steady(), steady(ours=1.2, published=0.9))
    assert done.exit_code == 0, done.output
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in done.output.splitlines() if line.startswith("│")]
    found = {row[0]: row[1:] for row in rows}
    assert found["ours"][:3] == ["100 ms", "120 ms", "1.200"]
    assert found["ours"][4] == "slower"
    assert found["published"][2] == "0.900"
    assert found["published"][4] == "faster"
    assert found["baseline"][2] == "1.000"
    assert len(found["baseline"]) == 4 or found["baseline"][4] == ""
    assert "ours-fused" not in found  # not run in either
    assert "2 of 4 changed beyond noise: 1 slower, 1 faster" in done.output
    assert "same machine, versions and settings" in done.output
    assert all(len(line) <= 80 for line in done.output.splitlines() if line[:1] in "┏┃┡│└")


def test_what_differs_comes_first() -> None:
    other = steady()
    other["environment"]["cpu"] = "Another CPU"
    other["environment"]["libraries"]["torch"] = "9.9"
    other["settings"]["batch_size"] = 256
    done = run(steady(), other)
    assert done.exit_code == 0, done.output
    before, _ = done.output.split("┏", 1)
    assert "different machines: the ratios compare these too" in before
    assert "machine, cpu: AMD EPYC → Another CPU\n" in before
    assert "versions, libraries.torch: 2.15.0 → 9.9\n" in before
    assert "different settings: the ratios may be due to them" in before
    assert "settings, batch_size: 128 → 256\n" in before
    assert "load average 0.25 before, 0.75 after" in before


def test_another_device_is_another_machine() -> None:
    other = overhead(device="cuda:0")
    machine = ['cuda_devices: [] → ["NVIDIA H200"]', "device: cpu → cuda:0"]
    assert differences(overhead(), other) == {"machine": machine, "versions": [], "settings": []}


def test_settings_within_a_gpu_check_count() -> None:
    other = gpu_check()
    other["stages"]["kernels"]["result"]["settings"]["rounds"] = 99
    assert differences(gpu_check(), other)["settings"] == ["kernels.rounds: 4 → 99"]


@pytest.mark.parametrize(("percent", "exit_code"), [("0", 1), ("10", 1), ("19.9", 1), ("25", 0), ("1000", 0)])
def test_failing_where_something_got_slower(percent: str, exit_code: int) -> None:
    slower = overhead()
    for arm in slower["arms"].values():
        arm["milliseconds"] = [100.0] * 20 if arm["milliseconds"] else []
    before = overhead()
    for name, arm in before["arms"].items():
        arm["milliseconds"] = [100.0 / (1.2 if name == "ours" else 1)] * 20 if arm["milliseconds"] else []
    done = run(before, slower, "--fail-above", percent)
    assert done.exit_code == exit_code, done.output
    assert ("slower by more than" in done.output) == bool(exit_code)
    assert run(slower, before, "--fail-above", "0").exit_code == 0  # faster is no failure


@pytest.mark.parametrize("percent", ["-1", "nan", "much"])
def test_percentages_that_mean_nothing(percent: str) -> None:
    assert run(steady(), steady(ours=2), "--fail-above", percent).exit_code in (1, 2)


def test_other_suites_are_refused_in_one_line() -> None:
    for other, kind in ((scores(), "scores"), (epochs(), "overhead-epoch")):
        done = run(overhead(), other)
        assert done.exit_code == 1
        assert done.stderr == f"error: a.json is a result of overhead and b.json of {kind}: nothing to compare\n"


def test_nothing_in_common_is_no_success() -> None:
    for name in ("launches", "kernel-resources"):
        done = run(EVERY[name](), EVERY[name](), "--fail-above", "5")
        assert done.exit_code == 1
        assert done.stderr == "error: a.json and b.json: nothing is timed in both\n"


def test_what_has_no_time_any_more_is_said() -> None:
    other = steady()
    other["arms"]["ours"].update(milliseconds=[], not_run="no longer")
    del other["arms"]["published"]
    other["arms"]["closed-form"]["milliseconds"] = [1.0, 1.0]
    done = run(steady(), other)
    assert done.exit_code == 0, done.output
    assert "ours not compared: A timed; B no longer\n" in done.output
    assert "published not compared: A timed; B not in the file\n" in done.output
    assert "closed-form not compared: A timed; B only 2 rounds\n" in done.output
    assert "0 of 1 changed" in done.output


def test_every_sample_of_every_suite_is_found() -> None:
    assert set(series_of(scores(), "")) == {
        Key(f"N = {size}", arm) for size in (64, 128) for arm in ("forward", "streaming", "published")
    }
    found = series_of(scaling(), "")
    assert found[Key("B = 16", "torch")].milliseconds == scaling()["axes"]["B"]["methods"]["torch"]["milliseconds"][1]
    assert found[Key("B = 8", "triton")] == Series([], "no GPU")
    assert list(series_of(EVERY["captured"](), "")) == [
        Key("", f"{arm}, captured") for arm in ("baseline", "ours-fused", "compiled")
    ]
    timed = [key for key, series in series_of(kernels(), "").items() if series.milliseconds]
    assert len(timed) == 3 * (3 + 3 + 2)
    assert series_of(kernels(), "")[Key("layer1 bfloat16 both", "published")].reason == "off by 7"
    assert {key.case for key in series_of(gpu_check(), "")} == {
        *(f"kernels: {key.case}" for key in series_of(kernels(), "")),
        "training: tf32",
    }


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("launches", "kernel-resources")])
def test_a_result_does_not_differ_from_itself(name: str) -> None:
    done = run(EVERY[name](), EVERY[name](), "--fail-above", "0")
    assert done.exit_code == 0, done.output
    assert re.search(r"\n0 of [1-9]\d* changed beyond noise", done.output)
    assert "different" not in done.output
