"""The whole step of `dainv train`, and what a step launches."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dainv import UserError
from dainv_bench.cli import main
from dainv_bench.gpu import training as training_suite
from dainv_bench.gpu.launches import _against, launched
from dainv_bench.gpu.launches import measure as measure_launches
from dainv_bench.gpu.training import OBJECTIVE, PLAIN
from dainv_bench.overhead.arms import BASELINE

SMALL = (
    "--device=cpu",
    "--width=0.1",
    "--batch-size=16",
    "--compared=1",
    "--rounds=3",
    "--steps-a-turn=1",
    "--backend=torch",
)


def test_the_training_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "one.json"
    done = CliRunner().invoke(main, ["training", *SMALL, "--precision=fp32,bf16", f"--out={path}"])
    assert done.exit_code == 0, done.output
    assert "bf16: not recorded (no CUDA graph on cpu)" in done.output
    assert all(len(line) <= 80 for line in done.output.splitlines() if line[:1] in "┏┃┡│└")
    result = json.loads(path.read_text())
    assert result["suite"] == "training"
    assert list(result["precisions"]) == ["fp32", "bf16"]
    one = result["precisions"]["fp32"]
    assert one["update_error"] is None
    shares = [
        100 * (1 - a / b) for a, b in zip(*(one["milliseconds"][form] for form in (PLAIN, OBJECTIVE)), strict=True)
    ]
    assert one["augmentation_percent"]["median"] == pytest.approx(sorted(shares)[1])
    assert "fp32: augmentation " in done.output
    updates = 350 * 50_000 / 16
    seconds = (updates * one["median_milliseconds"]["objective"] + 351 * one["evaluation_milliseconds"]) / 1e3
    assert one["seconds_of_350_epochs"] == pytest.approx(seconds)


def test_a_precision_that_is_none_is_refused() -> None:
    done = CliRunner().invoke(main, ["training", "--precision=fp8"])
    assert done.exit_code == 1
    assert "--precision: there is no 'fp8'; there are fp32, tf32, bf16" in done.output


@pytest.mark.gpu
def test_recorded_training_steps_are_the_eager_ones() -> None:
    settings = training_suite.TrainingSettings(device="cuda", width=0.25, rounds=3, steps_a_turn=5)
    for precision, one in training_suite.measure(settings)["precisions"].items():
        assert one["recorded"], one["not_recorded"]
        assert one["update_error"] is not None
        assert one["update_error"] < 0.05, precision


TRACE = {
    "traceEvents": [
        {"cat": "kernel", "name": "conv"},
        {"cat": "kernel", "name": "conv"},
        {"cat": "gpu_memset", "name": "Memset"},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel"},
        {"cat": "gpu_user_annotation", "name": "Optimizer.step"},
        {"ph": "M", "name": "process_name"},
    ]
}


def test_what_ran_on_the_device_is_counted() -> None:
    assert launched(TRACE) == Counter({"conv": 2, "Memset": 1})


def test_launches_are_compared_with_the_baseline() -> None:
    counts = {BASELINE: Counter(conv=9, relu=9), "ours-fused": Counter(conv=9, sums=9, finish=2)}
    arm = _against(counts, {"ours-fused": None}, "ours-fused", None)
    assert (arm["launches"], arm["beyond_baseline"]) == (20, 2)
    assert (arm["more"], arm["fewer"]) == ({"sums": 9, "finish": 2}, {"relu": 9})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_launches_are_not_counted_on_a_cpu() -> None:
    with pytest.raises(UserError, match="launches are counted on a CUDA device"):
        measure_launches("cpu")


@pytest.mark.gpu
def test_launches_of_a_step() -> None:
    arms = measure_launches("cuda")["arms"]
    assert arms[BASELINE]["launches"] is not None
    assert arms[BASELINE]["launches"] >= 27  # nine convolutions, forward and backward by data and weights
    assert arms[BASELINE]["beyond_baseline"] == 0
    assert arms["published"]["beyond_baseline"] > 9
