from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from bench_helpers import TINY_OPTIONS, WRONG_GRADIENT, WRONG_LOSS, add_arm, interrupted_in_round
from bench_results import overhead
from click.testing import CliRunner, Result
from rich.console import Console

from dainv_bench.cli import main
from dainv_bench.overhead import allocator
from dainv_bench.overhead.arms import Arm
from dainv_bench.overhead.summary import summarise
from dainv_bench.summary import print_summary

pytestmark = pytest.mark.usefixtures("_elsewhere")


def run(*options: str) -> Result:
    return CliRunner().invoke(main, ["overhead", *TINY_OPTIONS, *options])


def test_every_arm_is_in_the_table_and_the_verdict_below() -> None:
    result = run("--limit", "1e9", "--arms", "published,ours,ours-fused", "--out", "one.json")
    assert result.exit_code == 0, result.output
    for arm in ("baseline", "published", "ours", "ours-fused"):
        assert any(line.startswith(f"│ {arm} ") for line in result.output.splitlines())
    assert "ours-fused not run: " in result.output
    assert "within the limit of 1e+09 %" in result.output
    assert json.loads(Path("one.json").read_text())["verdict"]["verdict"] == "within"


def test_above_the_limit_is_a_failure() -> None:
    result = run("--limit", "-100", "--arms", "ours", "--out", "one.json")  # no step takes less than no time
    assert result.exit_code == 1
    assert "above the limit of -100 %" in result.output
    assert json.loads(Path("one.json").read_text())["verdict"]["verdict"] == "above"


def test_default_file_and_baseline_always_there() -> None:
    result = run("--arms", " ours-fused ")
    assert result.exit_code == 0
    assert "no verdict" in result.output
    (path,) = Path("benchmarks/results").iterdir()
    assert path.name.startswith("overhead--")
    assert path.name.endswith("--cpu.json")
    assert list(json.loads(path.read_text())["arms"]) == ["baseline", "ours-fused"]


@pytest.mark.parametrize("arm", [WRONG_LOSS, WRONG_GRADIENT], ids=lambda arm: arm.name)
def test_no_time_is_shown_for_a_wrong_arm(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    add_arm(monkeypatch, arm)
    result = run("--arms", f"ours,{arm.name}", "--out", "one.json")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: nothing timed: {arm.name} disagrees at layer")
    assert not Path("one.json").exists()


def test_ctrl_c_reports_the_finished_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    add_arm(monkeypatch, interrupted_in_round(5))
    result = run("--rounds", "9", "--arms", "ours,interrupted", "--out", "one.json")
    assert result.exit_code == 130
    assert "In each of 4 rounds every arm has one step" in result.output
    assert "interrupted before all was measured" in result.output
    written = json.loads(Path("one.json").read_text())
    assert written["interrupted"] is True
    assert len(written["orders"]) == 4
    assert {len(arm["milliseconds"]) for arm in written["arms"].values()} == {4}


def test_ctrl_c_before_there_is_enough_to_say_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    add_arm(monkeypatch, interrupted_in_round(3))
    result = run("--rounds", "9", "--arms", "ours,interrupted", "--out", "one.json")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["interrupted"]
    assert not Path("one.json").exists()


def test_memory_is_kept_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: asked.append(True) or True)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert run("--arms", "baseline").exit_code == 0
    assert not asked
    assert run("--arms", "baseline", "--allocator", "kept").exit_code == 0
    assert asked == [True]
    system, kept = sorted(Path("benchmarks/results").iterdir())
    assert (system.name[:10], kept.name[:15]) == ("overhead--", "overhead-kept--")
    settings = json.loads(kept.read_text())["settings"]
    assert (settings["allocator"], settings["malloc_variables"]) == ("kept", {"MALLOC_ARENA_MAX": "2"})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "kept",
            "--allocator kept: expected glibc, and no MALLOC_... or GLIBC_TUNABLES in the environment; unset them",
        ),
        ("lost", "--allocator: expected system or kept, got 'lost'"),
    ],
)
def test_an_allocator_that_cannot_be_had(value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    done = run("--arms", "baseline", "--allocator", value)
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"error: {said}\n")


@pytest.mark.parametrize(("columns", "fits"), [(80, True), (40, False)])
def test_no_digit_is_left_out_of_a_table(columns: int, fits: bool) -> None:
    result = overhead()
    result["arms"]["baseline"]["peak_memory_bytes"] = 1234 * 2**20
    for arm in result["arms"].values():
        if arm["overhead_percent"]:
            arm["overhead_percent"] = {"median": 166.0, "low": -160.1, "high": 170.3}
    result["arms"] = {"metric-learning": result["arms"]["published"], **result["arms"]}
    out = io.StringIO()
    print_summary(Console(file=out, width=columns), summarise(result), result)  # type: ignore[arg-type]
    table = [line for line in out.getvalue().splitlines() if line[:1] in "┏┃┡│└"]
    assert (max(map(len, table)) <= columns) == fits
    assert len(set(map(len, table))) == 1
    text = "\n".join(table)
    for cell in ("metric-learning", "100 ms", "+166.0 %", "-160.1 to +170.3 %", "1234 MiB"):
        assert cell in text
    assert "…" not in text


def test_whole_epochs_take_their_batches_from_real_images(tmp_path: Path) -> None:
    out = tmp_path / "epoch.json"
    options = ["--epoch", "--batch-size", "512", "--views", "4", "--width", "0.05", "--arms", "ours-relu"]
    done = CliRunner().invoke(main, ["overhead", *options, "--device", "cpu", "--limit", "1e6", "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["settings"]["data"] == "digits"
    assert result["settings"]["updates"] == 3  # 1437 images in batches of 512 samples
    assert len(result["arms"]["ours-relu"]["milliseconds"]) == 3
    assert "Time of a training epoch (3 updates on digits, batches made anew)" in done.output
