"""The whole step of `dainv train`, eager and recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench_helpers import last
from click.testing import CliRunner

from dainv_bench.cli import main
from dainv_bench.training import suite as training_suite
from dainv_bench.training.results import OBJECTIVE, PLAIN
from dainv_bench.training.settings import TrainingSettings

SMALL = (
    "--device=cpu",
    "--width=0.1",
    "--batch-size=16",
    "--compared=1",
    "--rounds=3",
    "--steps-a-turn=1",
    "--backend=torch",
)


def test_shares_and_what_350_epochs_take(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    done = CliRunner().invoke(main, ["training", *SMALL, "--precision=fp32,bf16", f"--out={path}"])
    assert done.exit_code == 0, done.output
    assert "bf16: not recorded (no CUDA graph on cpu)" in done.output
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


def test_ctrl_c_keeps_the_precisions_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(settings: TrainingSettings, data: Any, precision: str, tell: Any) -> Any:
        if precision == "bf16":
            raise KeyboardInterrupt
        return {"of": precision}, False

    monkeypatch.setattr(training_suite, "_measure_one", pressed)
    *kept, result = training_suite.measure(TrainingSettings(device="cpu"))
    assert result["interrupted"]
    assert result["precisions"] == {"fp32": {"of": "fp32"}, "tf32": {"of": "tf32"}}
    assert [len(one["precisions"]) for one in kept] == [1, 2]


@pytest.mark.gpu
def test_recorded_training_steps_are_the_eager_ones() -> None:
    settings = TrainingSettings(device="cuda", width=0.25, rounds=3, steps_a_turn=5)
    for precision, one in last(training_suite.measure(settings))["precisions"].items():
        assert one["recorded"], one["not_recorded"]
        assert one["update_error"] is not None
        assert one["update_error"] < 0.05, precision
