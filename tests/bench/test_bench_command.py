"""What the commands of all suites have in common."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dainv_bench.cli import main
from dainv_bench.kernels.settings import KernelSettings
from dainv_bench.overhead.settings import OverheadSettings
from dainv_bench.reading import FIELDS, read_result

# Each suite as small as it gets, with one who cannot be run here where it has such.
TINY = {
    "overhead": "--batch-size 8 --views 4 --width 0.1 --arms ours,ours-fused --limit 1e9",
    "scores": "--sizes 4,6 --repeats 1 --batch-size 4 --width 0.1 --arms augmentation --limit 1e9",
    "scaling": "--batch-size 16 --views 4 --axes B,D --values B=8,16 --values D=3,12288",
    "kernels": "--batch-size 16 --views 4 --workloads layer9 --dtype float32 --methods relu,torch,triton",
    "captured": "--batch-size 8 --views 4 --width 0.1 --arms closed-form --compiled=",
    "training": "--batch-size 16 --width 0.1 --precision fp32 --compared 1 --steps-a-turn 1 --backend torch",
}
SUITES = pytest.mark.parametrize("name", TINY)

pytestmark = pytest.mark.usefixtures("_elsewhere")


def run(name: str, *options: str) -> Result:
    return CliRunner().invoke(main, [name, *shlex.split(TINY[name]), "--device", "cpu", *options])


def written() -> dict[str, Any]:
    (path,) = Path("benchmarks/results").iterdir()
    return read_result(path)


@SUITES
def test_a_table_that_fits_and_a_file_that_can_be_read(name: str) -> None:
    done = run(name, "--rounds", "3")
    assert done.exit_code == 0, done.output
    table = [line for line in done.output.splitlines() if line[:1] in "┏┃┡│├└"]
    assert len(table) >= 5
    assert all(len(line) <= 80 for line in table)
    assert not any(cell.strip().endswith("…") for line in table for cell in line.split("│"))
    assert "\x1b" not in done.output  # no bar and no colour where nobody watches
    assert "load average" in done.output
    (path,) = Path("benchmarks/results").iterdir()
    assert path.name.startswith(f"{name}--")
    assert path.name.endswith("--cpu.json")
    assert f"written to {path}" in done.output
    result = read_result(path)
    assert set(result) == FIELDS[name].__required_keys__
    assert result["suite"] == name
    assert result["interrupted"] is False
    assert result["settings"]["device"] == "cpu"
    assert result["settings"]["rounds"] == 3
    if name in ("overhead", "kernels"):
        missing = {"overhead": "ours-fused not run: ", "kernels": "triton not run (layer9 float32): "}
        assert missing[name] in done.output


@SUITES
def test_quick_does_not_replace_a_measurement(name: str) -> None:
    assert run(name, "--quick").exit_code == 0
    (path,) = Path("benchmarks/results").iterdir()
    assert path.name.startswith(f"{name}-quick--")
    assert written()["settings"]["rounds"] == (5 if name == "kernels" else 3)


def test_what_is_given_goes_before_what_quick_means() -> None:
    assert run("overhead", "--quick", "--rounds", "4", "--arms", "baseline").exit_code == 0
    result = written()
    assert (result["settings"]["rounds"], result["settings"]["warmup"]) == (4, 1)
    assert list(result["arms"]) == ["baseline"]


def test_presets() -> None:
    assert OverheadSettings.preset(False, {}) == {}
    assert OverheadSettings.preset(False, {"epoch": True})["rounds"] == 3
    assert "compiled" not in OverheadSettings.preset(True, {})["arms"]
    assert OverheadSettings.preset(True, {"epoch": True})["width"] < 1
    assert KernelSettings.preset(False, {}) == {}
    assert "compiled" not in KernelSettings.preset(True, {})["methods"]


@SUITES
@pytest.mark.parametrize("options", [["--nonsense"], ["--out", "."], ["--rounds", "many"]], ids=" ".join)
def test_wrong_usage(name: str, options: list[str]) -> None:
    assert run(name, *options).exit_code == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scores", ["--sizes", "many"]),
        ("scaling", ["--values", "B"]),
        ("scaling", ["--values", "B="]),
        ("scaling", ["--values", "B=many"]),
    ],
    ids=str,
)
def test_numbers_that_are_none(name: str, options: list[str]) -> None:
    done = run(name, *options)
    assert done.exit_code == 2
    assert "expected" in done.stderr


@pytest.mark.parametrize("name", [*TINY, "launches", "resources", "gpu-check"])
def test_what_cannot_be_written_is_found_out_before_the_work(name: str) -> None:
    Path("file").touch()
    done = CliRunner().invoke(main, [name, "--out", "file/there"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"error: --out: file/there\S* cannot be written \(.*\)\n", done.stderr)


@SUITES
def test_a_mistake_gets_one_line(name: str) -> None:
    done = run(name, "--rounds", "2")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: --rounds: expected at least 3, got 2\n"


def test_what_is_there_is_kept_before_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    from dainv_bench.scaling import suite

    measured = suite._measure_axis

    def failing(axis: str, *rest: Any) -> Any:
        if axis == "D":
            raise RuntimeError("the machine caught fire")
        return measured(axis, *rest)

    monkeypatch.setattr(suite, "_measure_axis", failing)
    done = run("scaling", "--rounds", "3")
    assert isinstance(done.exception, RuntimeError)
    assert list(written()["axes"]) == ["B"]
    assert json.loads(json.dumps(written()))["interrupted"] is False
