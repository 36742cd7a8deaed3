from __future__ import annotations

import copy
import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_helpers import CPU, add_arm, altered, problem
from click.testing import CliRunner
from torch import Tensor

from dainv import UserError
from dainv.objective import Objective
from dainv.training.captured import CapturedStep
from dainv.training.optimizer import capturable_sgd
from dainv_bench.cli import main
from dainv_bench.gpu import captured as captured_suite
from dainv_bench.gpu import check
from dainv_bench.gpu import training as training_suite
from dainv_bench.gpu.captured import CAPTURED, EAGER, CapturedSettings, training_step
from dainv_bench.gpu.check import FAILED, NOT_RUN, PASSED, STAGES, TIMED_OUT, GpuCheckResult, Stage, all_passed, run
from dainv_bench.gpu.goals import GOALS, Judged, judge_goals
from dainv_bench.gpu.launches import _against, launched
from dainv_bench.gpu.launches import measure as measure_launches
from dainv_bench.overhead.arms import ARMS, BASELINE, objective_of
from dainv_bench.statistics import median_interval, paired_overhead
from dainv_bench.workload import Batch, make_batches, make_network

# Stages


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
        (f"{WRITES}; print('why'); sys.exit(1)", FAILED, "exit code 1, see bad.log", {"done": True}),
        ("import os; os.abort()", FAILED, "exit code -6, see bad.log", None),
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
    assert ("why" in (tmp_path / "bad.log").read_text()) == ("why" in code)


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
    assert "begun" in (tmp_path / "hangs.log").read_text()


def test_a_stage_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SECONDS_TO_STOP", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    result = run(tmp_path, [python(deaf, "deaf", 2)], total_seconds=2)
    assert result["stages"]["deaf"]["status"] == TIMED_OUT
    assert result["stages"]["deaf"]["exit_code"] == -9


def test_time_that_a_stage_leaves_over_is_given_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def no_process(stage: Stage, arguments: str, seconds: float, folder: Path) -> tuple[Any, bool]:
        limits.append(seconds)
        return check._not_run("for a test"), False

    monkeypatch.setattr(check, "_run_stage", no_process)
    run(tmp_path, [python("", "one", 10), python("", "two", 20)], total_seconds=30)
    assert limits == pytest.approx([10, 30], abs=5)


def test_ctrl_c_keeps_the_stages_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = check._run_stage

    def pressed(stage: Stage, arguments: str, seconds: float, folder: Path) -> tuple[Any, bool]:
        outcome, _ = ours(stage, arguments, seconds, folder)
        return outcome, stage.name == "second"

    monkeypatch.setattr(check, "_run_stage", pressed)
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


def test_all_fits_into_eight_minutes_and_eight_files() -> None:
    assert sum(stage.seconds for stage in STAGES) <= check._TOTAL_SECONDS
    assert check._TOTAL_SECONDS + check._SECONDS_TO_STOP < 8 * 60
    assert len(STAGES) + 1 <= 8
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", stage.name) for stage in STAGES)


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
    assert check.read_junit(report) == {
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
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["good.log", "gpu-check.json"]


def test_the_command_fails_where_something_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = python("sys.exit(3)", "bad")
    monkeypatch.setattr(check, "run", lambda folder, on_stage: run(folder, [bad, GOOD], on_stage=on_stage))
    done = CliRunner().invoke(main, ["gpu-check", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "bad failed" in done.output
    assert "exit code 3" in done.output


# Goals


def one_pass(milliseconds: float, share: float = 90.0) -> dict[str, Any]:
    samples = [milliseconds * factor for factor in (0.99, 1.0, 1.01)]
    return {
        "milliseconds": samples,
        "median_milliseconds": milliseconds,
        "percent_of_copy": {"median": share, "low": share - 1, "high": share + 1},
    }


def method(milliseconds: float, ours: bool = False, error: float = 1e-7, form: str = "loss") -> dict[str, Any]:
    return {
        "ours": ours,
        "form": form,
        "not_run": None,
        "wrong": None,
        "errors": {"loss": {"error": error, "bound": 1e-5}, "gradient": {"error": error, "bound": 1e-5}},
        "passes": {name: one_pass(n * milliseconds) for n, name in enumerate(("forward", "backward", "both"), 1)},
    }


def kernels_result(**methods: Mapping[str, Any]) -> dict[str, Any]:
    found = {"slow": method(9.0, ours=True), "relu+fast": method(0.001, ours=True, form="relu+loss"), **methods}
    return {
        "workloads": {f"all-layers {dtype}": {"dtype": dtype, "methods": found} for dtype in ("float32", "bfloat16")}
    }


def judged(name: str, results: Mapping[str, Mapping[str, Any]], device: str | None = "NVIDIA H200") -> Judged:
    (one,) = (goal for goal in judge_goals(results, {"kernels": "timed out"}, device) if goal["goal"] == name)
    return one


@pytest.mark.parametrize(
    ("name", "milliseconds", "measured", "verdict"),
    [
        ("forward, nine layers, float32, µs", 0.0525, 52.5, "met"),
        ("forward, nine layers, float32, µs", 0.0535, 53.5, "missed"),
        ("backward, nine layers, bfloat16, µs", 0.028, 56, "met"),
        ("backward, nine layers, bfloat16, µs", 0.029, 58, "missed"),
    ],
)
def test_times_are_those_of_our_fastest_backend(name: str, milliseconds: float, measured: float, verdict: str) -> None:
    goal = judged(name, {"kernels": kernels_result(fast=method(milliseconds, ours=True), relu=method(1e-4))})
    assert goal["measured"] == pytest.approx(measured)
    assert goal["low"] == pytest.approx(0.99 * measured)
    assert goal["verdict"] == verdict


def test_times_are_judged_only_where_the_limit_was_made_for() -> None:
    results = {"kernels": kernels_result(fast=method(0.5, ours=True))}
    name = "forward, nine layers, float32, µs"
    assert judged(name, results)["verdict"] == "missed"
    elsewhere = judged(name, results, "NVIDIA A100")
    assert (elsewhere["verdict"], elsewhere["measured"]) == ("not run", pytest.approx(500))
    assert "H200" in str(elsewhere["reason"])
    assert judged("forward, float32, % of copy", results, "NVIDIA A100")["verdict"] == "met"


@pytest.mark.parametrize(("factor", "verdict"), [(9.9, "missed"), (10.1, "met")])
def test_ratios_to_peers(factor: float, verdict: str) -> None:
    results = {"kernels": kernels_result(fast=method(0.05, ours=True), published=method(0.05 * factor))}
    goal = judged("times faster than published", results)
    assert goal["measured"] == pytest.approx(factor)
    assert goal["verdict"] == verdict


def test_a_peer_that_was_not_run_says_why() -> None:
    missing = method(1.0) | {"passes": {}, "not_run": "no compiler"}
    results = {"kernels": kernels_result(fast=method(0.05, ours=True), compiled=missing)}
    goal = judged("times faster than compiled", results)
    assert (goal["verdict"], goal["measured"], goal["reason"]) == ("not run", None, "compiled: no compiler")


def test_errors_of_ours_are_judged_and_not_those_of_peers() -> None:
    results = {"kernels": kernels_result(fast=method(1.0, ours=True, error=5e-7), peer=method(1.0, error=1e-3))}
    assert judged("error of a bfloat16 loss", results)["measured"] == 5e-7
    assert judged("error of a bfloat16 loss", results)["verdict"] == "met"
    wrong = method(1.0, ours=True) | {"wrong": "loss off", "passes": {}}
    counted = judged("backends beyond their error bound", {"kernels": kernels_result(bad=wrong)})
    assert (counted["measured"], counted["verdict"]) == (2, "missed")
    assert "bad on all-layers float32: loss off" in str(counted["reason"])


def test_without_a_result_or_a_gpu_nothing_is_judged() -> None:
    for device, results, reason in (
        (None, {"kernels": kernels_result(fast=method(0.01, ours=True))}, "no CUDA device"),
        ("NVIDIA H200", {}, "timed out"),
    ):
        for goal in judge_goals(results, {stage.name: "timed out" for stage in STAGES}, device):
            assert (goal["verdict"], goal["measured"], goal["reason"]) == ("not run", None, reason)


def captured_result(overhead: float | None) -> dict[str, Any]:
    interval = None if overhead is None else {"median": overhead, "low": overhead - 1, "high": overhead + 1}
    worse = None if overhead is None else {"median": overhead + 5, "low": overhead, "high": overhead + 9}
    step = {"arm": "ours-fused", "not_run": "no CUDA device" if overhead is None else None}
    return {
        "steps": {
            "published": {"arm": "published", "not_run": None, "overhead_percent": {"median": 0, "low": 0, "high": 0}},
            "a": step | {"overhead_percent": worse},
            "b": step | {"overhead_percent": interval},
        }
    }


def test_steps_are_judged_by_the_best_form_of_the_fused_arm() -> None:
    results = {"captured": captured_result(1.2), "captured-norm": captured_result(1.2)}
    bias, relu = judged("step, bias, ReLU, sums fused, %", results), judged("step, ReLU and sums fused, %", results)
    assert (bias["measured"], bias["verdict"], relu["verdict"]) == (1.2, "missed", "met")
    missing = judged("step, bias, ReLU, sums fused, %", {"captured": captured_result(None)})
    assert (missing["verdict"], missing["reason"]) == ("not run", "ours-fused: no CUDA device")


def test_failed_tests_are_a_missed_goal_and_no_tests_are_none() -> None:
    name = "failed tests marked gpu"
    assert judged(name, {"tests": {"passed": 9, "failed": 0}})["verdict"] == "met"
    assert judged(name, {"tests": {"passed": 9, "failed": 1}})["verdict"] == "missed"
    assert judged(name, {"tests": {"passed": 0, "failed": 0}})["verdict"] == "not run"


# Launches

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
    results = {"launches": {"arms": {BASELINE: arm, "ours-fused": arm}}}
    assert judged("launches beyond the baseline's", results)["verdict"] == "met"
    assert judged("arms whose host waits for the GPU", results)["verdict"] == "met"
    waiting = {"launches": {"arms": {"ours-fused": arm | {"beyond_baseline": 3, "host_waits": "called .item()"}}}}
    assert judged("launches beyond the baseline's", waiting)["verdict"] == "missed"
    assert judged("arms whose host waits for the GPU", waiting)["measured"] == 1


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


# Captured steps


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
    result = captured_suite.measure(CapturedSettings(**TINY, arms=("closed-form", "ours-fused")))
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
    with pytest.raises(UserError, match="nothing timed: baseline captured is not the eager step"):
        captured_suite.measure(CapturedSettings(**TINY, arms=()))


def test_arms_that_disagree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    add_arm(
        monkeypatch,
        altered("nan", lambda right, task, x: right(task * torch.nan, {n: f * torch.nan for n, f in x.items()})),
    )
    with pytest.raises(UserError, match="nan disagrees"):
        captured_suite.measure(CapturedSettings(**TINY, arms=("nan",)))


def test_which_forms_an_arm_has() -> None:
    settings = CapturedSettings(compiled=("closed-form",))
    assert settings.forms_of(BASELINE) == [EAGER, CAPTURED]
    assert settings.forms_of("closed-form") == [CAPTURED, "compiled and captured"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_size": 10}, "--batch-size 10"),
        ({"rounds": 2}, "--rounds"),
        ({"width": float("nan")}, "--width"),
        ({"arms": ("theirs",)}, "--arms: there is no arm 'theirs'"),
        ({"compiled": ("theirs",)}, "--compiled: there is no arm 'theirs'"),
    ],
    ids=str,
)
def test_what_cannot_be_captured_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"^{reason}"):
        CapturedSettings(**options)


def test_the_captured_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "one.json"
    tiny = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "compiled"]
    done = CliRunner().invoke(main, ["captured", *tiny, "--compiled=", "--arms=ours-fused", f"--out={path}"])
    assert done.exit_code == 0, done.output
    assert "ours-fused, captured not run: " in done.output
    assert all(len(line) <= 80 for line in done.output.splitlines() if line[:1] in "┏┃┡│└")
    assert json.loads(path.read_text())["suite"] == "captured"


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
    assert captured_suite._distance(*networks) <= 1e-2 * captured_suite._distance(networks[0], start)


@pytest.mark.gpu
@pytest.mark.parametrize("arm", ["published", "closed-form", "ours", "ours-fused"])
def test_every_arm_can_be_recorded(arm: str) -> None:
    settings = CapturedSettings(**{**TINY, "device": "cuda", "width": 0.25}, arms=(arm,))
    step = captured_suite.measure(settings)["steps"][f"{arm}, captured"]
    assert step["not_run"] is None
    assert len(step["milliseconds"]) == 3


# Whole steps


def training_result(**precisions: Mapping[str, Any]) -> dict[str, Any]:
    return {"training": {"precisions": precisions}}


def test_recorded_training_is_judged_by_its_updates_and_by_350_epochs() -> None:
    good = {"update_error": 0.001, "not_recorded": None, "seconds_of_350_epochs": 200.0}
    results = training_result(fp32=good | {"update_error": 0.02}, tf32=good, bf16=good)
    assert judged("200 recorded updates off, fp32", results)["verdict"] == "missed"
    assert judged("200 recorded updates off, tf32", results)["verdict"] == "met"
    assert judged("350 epochs, tf32, s", results)["verdict"] == "met"
    assert judged("350 epochs, bf16, s", results)["verdict"] == "missed"
    assert judged("350 epochs, bf16, s", results, "NVIDIA A100")["verdict"] == "not run"
    eager = training_result(tf32=good | {"update_error": None, "not_recorded": "cannot be recorded"})
    unrecorded = judged("200 recorded updates off, tf32", eager)
    assert (unrecorded["verdict"], unrecorded["reason"]) == ("not run", "cannot be recorded")
    assert judged("350 epochs, bf16, s", eager)["reason"] == "no precision bf16"


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


def test_the_result_says_nothing_of_this_machine(tmp_path: Path) -> None:
    result: GpuCheckResult = run(tmp_path, [GOOD])
    assert str(tmp_path) not in json.dumps(result)
    assert str(Path.home()) + "/" not in json.dumps(result)
