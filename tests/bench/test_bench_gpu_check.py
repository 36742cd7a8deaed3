"""One call for everything: its stages, one process each, and what is written of them."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dainv_bench.cli import main
from dainv_bench.gpu import check, process
from dainv_bench.gpu.check import GpuCheckResult, all_passed, run
from dainv_bench.gpu.goals import GOALS
from dainv_bench.gpu.process import FAILED, LOG, NOT_RUN, PASSED, TIMED_OUT
from dainv_bench.gpu.stages import STAGES, Stage, read_junit


def python(code: str, name: str = "stage", seconds: float = 60) -> Stage:
    """A stage that runs some code, on a GPU and elsewhere; ``output`` is where it writes."""
    arguments = f"-c {shlex.quote('import sys, json, pathlib; output = pathlib.Path(sys.argv[1]); ' + code)} {{output}}"
    return Stage(name, arguments, seconds, on_cpu=arguments)


WRITES = "output.write_text(json.dumps(dict(done=True)))"
GOOD = python(WRITES, "good")


def test_stages_run_in_order_and_each_is_written_before_the_next(tmp_path: Path) -> None:
    seen: list[tuple[str, list[str]]] = []

    def on_stage(name: str) -> None:
        path = tmp_path / "gpu-check.json"
        seen.append((name, list(json.loads(path.read_text())["stages"]) if path.exists() else []))

    result = run(tmp_path, [GOOD, python(WRITES, "second")], on_stage=on_stage)
    assert seen == [("good", []), ("second", ["good"])]
    assert result == json.loads((tmp_path / "gpu-check.json").read_text())
    assert [stage["status"] for stage in result["stages"].values()] == [PASSED, PASSED]
    assert result["stages"]["good"]["result"] == {"done": True}
    assert all_passed(result)


@pytest.mark.parametrize(
    ("code", "status", "reason", "kept"),
    [
        (f"{WRITES}; print('why'); sys.exit(1)", FAILED, "exit code 1, see gpu-check.log", {"done": True}),
        ("import os; os.abort()", FAILED, "exit code -6, see gpu-check.log", None),
        ("pass", FAILED, "no result (FileNotFoundError)", None),
        ("output.write_text('[half of')", FAILED, "no result (JSONDecodeError)", None),
    ],
    ids=["fails", "crashes", "writes nothing", "writes nonsense"],
)
def test_a_stage_that_goes_wrong_does_not_stop_the_next(
    code: str, status: str, reason: str, kept: object, tmp_path: Path
) -> None:
    result = run(tmp_path, [python(code, "bad"), GOOD])
    bad, good = result["stages"].values()
    assert (bad["status"], bad["reason"], bad["result"]) == (status, reason, kept)
    assert good["status"] == PASSED
    assert not all_passed(result)
    assert ("\nwhy\n" in (tmp_path / LOG).read_text()) == ("why" in code)


def test_a_stage_that_hangs_is_stopped_as_by_ctrl_c_and_what_it_wrote_is_kept(tmp_path: Path) -> None:
    hangs = f"""import time
try:
    print("begun", flush=True); time.sleep(600)
except KeyboardInterrupt:
    {WRITES}"""
    begun = time.monotonic()
    result = run(tmp_path, [python(hangs, "hangs", 8), GOOD], total_seconds=68)
    assert time.monotonic() - begun < 60
    assert result["stages"]["hangs"]["status"] == TIMED_OUT
    assert result["stages"]["hangs"]["result"] == {"done": True}
    assert result["stages"]["good"]["status"] == PASSED
    assert not all_passed(result)
    assert "begun" in (tmp_path / LOG).read_text()


def test_a_stage_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_SECONDS_TO_STOP", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    result = run(tmp_path, [python(deaf, "deaf", 2)], total_seconds=2)
    assert result["stages"]["deaf"]["status"] == TIMED_OUT
    assert result["stages"]["deaf"]["exit_code"] == -9


def test_time_that_a_stage_leaves_over_is_given_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def no_process(stage: Stage, arguments: str, seconds: float, folder: Path) -> tuple[Any, bool]:
        limits.append(seconds)
        return process.not_run("for a test"), False

    monkeypatch.setattr(check, "run_stage", no_process)
    run(tmp_path, [python("", "one", 10), python("", "two", 20)], total_seconds=30)
    assert limits == pytest.approx([10, 30], abs=5)


def test_ctrl_c_keeps_the_stages_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = check.run_stage

    def pressed(stage: Stage, arguments: str, seconds: float, folder: Path) -> tuple[Any, bool]:
        outcome, _ = ours(stage, arguments, seconds, folder)
        return outcome, stage.name == "second"

    monkeypatch.setattr(check, "run_stage", pressed)
    result = run(tmp_path, [GOOD, python(WRITES, "second"), python(WRITES, "third")])
    assert result["interrupted"]
    assert list(result["stages"]) == ["good", "second"]
    assert json.loads((tmp_path / "gpu-check.json").read_text()) == result


def test_without_a_gpu_its_stages_are_not_run(tmp_path: Path) -> None:
    only_gpu = Stage("speed", "-c 'raise SystemExit(1)'", 60)
    result = run(tmp_path, [only_gpu, GOOD], has_gpu=False)
    assert (result["stages"]["speed"]["status"], result["stages"]["speed"]["reason"]) == (NOT_RUN, "no CUDA device")
    assert result["stages"]["good"]["status"] == PASSED
    assert all_passed(result)


def test_a_stage_whose_folder_is_not_there_is_not_run(tmp_path: Path) -> None:
    result = run(tmp_path, [Stage("tests", "-c ''", 60, on_cpu="-c ''", needs="no-such-folder")])
    assert result["stages"]["tests"]["status"] == NOT_RUN
    assert "no-such-folder" in str(result["stages"]["tests"]["reason"])


def test_stages_find_the_packages_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "kernels")  # relative, as on a machine where nothing is installed
    monkeypatch.chdir(tmp_path)
    imports = python(f"import dainv, dainv_kernels, dainv_bench; {WRITES}")
    assert run(tmp_path, [imports])["stages"]["stage"]["status"] == PASSED


def test_all_fits_into_a_call_of_ten_minutes() -> None:
    assert sum(stage.seconds for stage in STAGES) + process._SECONDS_TO_STOP < 9 * 60  # the rest is for starting


def test_what_a_process_has_started_ends_with_it(tmp_path: Path) -> None:
    child = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.exit(3)"
    begun = time.monotonic()
    result = run(tmp_path, [python(child, "parent")])
    assert time.monotonic() - begun < 60
    assert result["stages"]["parent"]["exit_code"] == 3
    pid = int((tmp_path / LOG).read_text().split()[-1])
    deadline = time.monotonic() + 20
    while _running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _running(pid)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_tests_that_are_stopped_are_counted_as_far_as_they_came(tmp_path: Path) -> None:
    (tmp_path / "test_slow.py").write_text(
        "import os, signal, time\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 0\n"
        "def test_stopped():  # when the others are reported, as a stage that has no time left\n"
        f"    while '] FAILED ' not in open({str(tmp_path / LOG)!r}).read(): time.sleep(0.05)\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "    time.sleep(600)\n"
    )
    (tests,) = (stage for stage in STAGES if stage.name == "tests")
    arguments = f"{tests.arguments.removesuffix('tests')}{tmp_path} -c /dev/null --rootdir {tmp_path}"
    outcome, _ = process.run_stage(tests, arguments.replace("-m gpu {parallel}", "-n 1"), 90, tmp_path)
    assert outcome["exit_code"] == 2
    assert outcome["result"] is not None
    assert outcome["result"]["failures"] == ["test_slow::test_bad"]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if "dainv_bench" in stage.arguments], ids=lambda s: s.name)
def test_the_command_line_understands_every_stage(stage: Stage) -> None:
    for arguments in filter(None, (stage.arguments, stage.on_cpu)):
        _, module, name, *options = shlex.split(arguments.format(output="one.json", parallel=""))
        assert module == "dainv_bench"
        main.commands[name].make_context(name, options)  # raises a usage error


def test_correctness_comes_before_speed() -> None:
    assert [stage.name for stage in STAGES][:2] == ["tests", "kernels"]
    assert {goal.stage for goal in GOALS} <= {stage.name for stage in STAGES}


def test_pytest_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(
        """<testsuites><testsuite><testcase classname="a" name="good" time="1.5"/>
        <testcase classname="a" name="bad" time="0.5"><failure message="x">y</failure></testcase>
        <testcase classname="a" name="broken"><error/></testcase>
        <testcase classname="a" name="left"><skipped/></testcase></testsuite></testsuites>"""
    )
    assert read_junit(report) == {
        "passed": 1, "failed": 2, "skipped": 1, "failures": ["a::bad", "a::broken"], "seconds": 2.0
    }  # fmt: skip


def test_the_command_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(check, "run", lambda folder, on_stage: run(folder, [GOOD], on_stage=on_stage))
    done = CliRunner().invoke(main, ["gpu-check", "--out", str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    assert "good passed" in done.output
    table = [line for line in done.output.splitlines() if line[:1] in "┏┃┡│└"]
    assert len(table) == len(GOALS) + 4
    assert all(len(line) <= 80 for line in table)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["gpu-check.json", "gpu-check.log"]


def test_the_command_fails_where_something_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = python("sys.exit(3)", "bad")
    monkeypatch.setattr(check, "run", lambda folder, on_stage: run(folder, [bad, GOOD], on_stage=on_stage))
    done = CliRunner().invoke(main, ["gpu-check", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "bad failed" in done.output
    assert "exit code 3" in done.output


def test_the_result_says_nothing_of_this_machine(tmp_path: Path) -> None:
    result: GpuCheckResult = run(tmp_path, [GOOD])
    assert str(tmp_path) not in json.dumps(result)
    assert str(Path.home()) + "/" not in json.dumps(result)
