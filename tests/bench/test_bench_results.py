from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest
import torch
from bench_helpers import TINY, last

from dainv import UserError
from dainv_bench.overhead.arms import ARMS
from dainv_bench.overhead.results import ArmResult, OverheadResult
from dainv_bench.overhead.settings import OverheadSettings
from dainv_bench.overhead.suite import measure
from dainv_bench.results import SCHEMA, default_path, write_result
from dainv_bench.statistics import median_interval, paired_overhead


@pytest.fixture(scope="module")
def result() -> OverheadResult:
    return last(measure(OverheadSettings(**TINY)))


def test_what_is_written_is_what_was_measured(result: OverheadResult, tmp_path: Path) -> None:
    write_result(tmp_path / "results" / "one.json", result)
    read = json.loads((tmp_path / "results" / "one.json").read_text())
    assert read == result
    assert set(read) == set(OverheadResult.__annotations__)
    assert read["schema"] == SCHEMA == 1
    for arm in read["arms"].values():
        assert set(arm) == set(ArmResult.__annotations__)


def test_every_arm_is_there_and_those_not_run_say_why(result: OverheadResult) -> None:
    assert list(result["arms"]) == list(ARMS)
    fused = result["arms"]["ours-fused"]
    assert fused["not_run"]
    assert fused["milliseconds"] == []
    assert fused["median_milliseconds"] is fused["overhead_percent"] is fused["agreement"] is None


def test_derived_numbers_come_from_the_samples(result: OverheadResult) -> None:
    arms = {name: arm for name, arm in result["arms"].items() if arm["not_run"] is None}
    baseline = arms.pop("baseline")
    assert baseline["overhead_percent"] is baseline["agreement"] is None
    paired_with = baseline["milliseconds"]
    for name, arm in arms.items():
        assert len(arm["milliseconds"]) == TINY["rounds"]
        assert arm["median_milliseconds"] in arm["milliseconds"]
        assert arm["overhead_percent"] == median_interval(paired_overhead(arm["milliseconds"], paired_with))
        assert (arm["agreement"] is not None) == ARMS[name].taps
        assert arm["peak_memory_bytes"] is None  # never a guess on a CPU
    assert [sorted(order) for order in result["orders"]] == [sorted([*arms, "baseline"])] * TINY["rounds"]


def test_settings_are_resolved(result: OverheadResult) -> None:
    assert result["settings"].items() >= {**TINY, "n_images": 2, "dtype": "float32", "alpha": 0.1}.items()
    assert sum(result["settings"]["layer_weights"]) == pytest.approx(0.1)


def test_verdict_is_about_ours(result: OverheadResult) -> None:
    verdict = result["verdict"]
    assert verdict is not None
    # which of them is cheapest at this tiny size is up to the machine
    ours = {name: result["arms"][name]["overhead_percent"] for name in ("ours-after", "ours", "ours-relu")}
    assert verdict["arm"] == min(ours, key=lambda name: ours[name]["median"])
    assert verdict["overhead_percent"] == ours[verdict["arm"]]
    assert verdict["limit_percent"] == 10


def test_nothing_says_whose_machine_it_was(result: OverheadResult, tmp_path: Path) -> None:
    write_result(tmp_path / "one.json", result)
    text = (tmp_path / "one.json").read_text()
    for private in (str(Path.cwd()), str(Path.home()), str(tmp_path), socket.gethostname()):
        assert f'"{private}' not in text
        assert f"{private}/" not in text
    assert f"/{getpass.getuser()}/" not in text


def test_file_is_named_after_suite_and_hardware() -> None:
    path = default_path("overhead", {"cpu": "AMD EPYC 9B14 @ 2.6GHz", "cpu_count": 2}, torch.device("cpu"))
    assert path == Path("benchmarks/results/overhead--amd-epyc-9b14-2-6ghz-2-cpus--cpu.json")


def test_an_error_that_is_no_number_does_not_cost_the_result(result: OverheadResult, tmp_path: Path) -> None:
    errors = {"loss": float("nan"), "gradient": (float("inf"), 1.0)}
    write_result(tmp_path / "one.json", result | {"errors": errors})
    assert json.loads((tmp_path / "one.json").read_text())["errors"] == {"loss": None, "gradient": [None, 1.0]}


def test_an_old_file_stays_when_the_new_one_cannot_be_written(result: OverheadResult, tmp_path: Path) -> None:
    old = tmp_path / "one.json"
    old.write_text("old")
    with pytest.raises(TypeError, match="JSON"):
        write_result(old, result | {"load_average": object()})
    assert old.read_text() == "old"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_result(tmp_path / "file" / "one.json", result)
