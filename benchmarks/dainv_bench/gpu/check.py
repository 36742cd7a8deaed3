"""``dainv-bench gpu-check``: everything that only a GPU can show, in one call of under eight minutes.

Stages run in order, correctness before speed, each in a process of its own with a time limit, so that a crash or a hang
costs no other stage. What there is is written after every stage.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypedDict
from xml.etree import ElementTree

import torch

from dainv.environment import environment
from dainv_bench.gpu.goals import Judged, judge_goals
from dainv_bench.results import SCHEMA, write_result

_TOTAL_SECONDS = 465
_SECONDS_TO_STOP = 10  # after Ctrl-C, to write what is finished, before the process is killed
NO_GPU = "no CUDA device"
PASSED, FAILED, TIMED_OUT, NOT_RUN = "passed", "failed", "timed out", "not run"


@dataclass(frozen=True)
class Stage:
    """One process.

    Attributes:
        name: of the stage and of its log.
        arguments: of ``python``, as in a shell; ``{output}`` stands for the file it writes its result to, and
            ``{parallel}`` for what lets pytest use several processes, if it can.
        seconds: its time limit; what earlier stages leave over is added.
        on_cpu: arguments without a GPU; None where there is nothing to run.
        read: output file to result.
        needs: a folder of the checkout that it cannot do without.
    """

    name: str
    arguments: str
    seconds: float
    on_cpu: str | None = None
    read: Callable[[Path], dict[str, Any]] = lambda path: json.loads(path.read_text())
    needs: str | None = None


class StageResult(TypedDict):
    """What became of a stage."""

    status: str  # passed, failed, timed out or not run
    reason: str | None
    seconds: float
    exit_code: int | None
    result: dict[str, Any] | None


class GpuCheckResult(TypedDict):
    """What ``dainv-bench gpu-check`` writes."""

    schema: int
    suite: str
    date: str
    interrupted: bool
    environment: dict[str, Any]
    stages: dict[str, StageResult]
    goals: list[Judged]


def read_junit(path: Path) -> dict[str, Any]:
    """Counts of pytest's XML report, and the names of what failed."""
    cases = list(ElementTree.parse(path).iter("testcase"))

    def having(*tags: str) -> list[str]:
        return [f"{c.get('classname')}::{c.get('name')}" for c in cases if any(c.find(t) is not None for t in tags)]

    failed, skipped = having("failure", "error"), having("skipped")
    return {
        "passed": len(cases) - len(set(failed) | set(skipped)),
        "failed": len(set(failed)),
        "skipped": len(skipped),
        "failures": sorted(set(failed)),
        "seconds": sum(float(case.get("time") or 0) for case in cases),
    }


# On a CPU two stages rehearse themselves; everything else would say nothing about a GPU.
STAGES = (
    Stage(
        "tests",
        "-m pytest -q -m gpu {parallel} -p no:cacheprovider --continue-on-collection-errors --junitxml {output} tests",
        130,
        read=read_junit,
        needs="tests",
    ),
    Stage(
        "kernels",
        "-m dainv_bench kernels --device cuda --rounds 15 --workloads all-layers,gigabyte,layer* --seconds 90 "
        "--out {output}",
        115,
        on_cpu="-m dainv_bench kernels --device cpu --quick --out {output}",
    ),
    Stage(
        "training",
        "-m dainv_bench training --device cuda --out {output}",
        45,
        on_cpu="-m dainv_bench training --device cpu --width 0.1 --batch-size 16 --precision fp32,bf16 --compared 2 "
        "--rounds 3 --steps-a-turn 1 --out {output}",
    ),
    Stage("launches", "-m dainv_bench launches --device cuda --out {output}", 25),
    Stage("overhead", "-m dainv_bench overhead --device cuda --limit 1e9 --out {output}", 35),
    Stage("captured", "-m dainv_bench captured --device cuda --out {output}", 75),
    Stage("captured-norm", "-m dainv_bench captured --device cuda --batch-norm --arms ours-fused --out {output}", 40),
)


def run(
    folder: Path,
    stages: Sequence[Stage] = STAGES,
    total_seconds: float = _TOTAL_SECONDS,
    on_stage: Callable[[str], None] = lambda _name: None,
    has_gpu: bool | None = None,
) -> GpuCheckResult:
    """Run all stages and judge the goals.

    Args:
        folder: where ``gpu-check.json`` and a log a stage go.
        stages: what to run.
        total_seconds: for all of them.
        on_stage: told the name of each stage before it runs.
        has_gpu: for tests; by default whether there is a CUDA device.

    Returns:
        What is in ``gpu-check.json``; after a Ctrl-C what was finished until then.

    Raises:
        UserError: the results cannot be written.
    """
    has_gpu = torch.cuda.is_available() if has_gpu is None else has_gpu
    result = GpuCheckResult(
        schema=SCHEMA,
        suite="gpu-check",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        interrupted=False,
        environment=environment(),
        stages={},
        goals=[],
    )
    deadline = time.monotonic() + total_seconds
    reserved = sum(stage.seconds for stage in stages)
    for stage in stages:
        reserved -= stage.seconds
        on_stage(stage.name)
        arguments = stage.arguments if has_gpu else stage.on_cpu
        if arguments is None:
            outcome, interrupted = _not_run(NO_GPU), False
        elif stage.needs is not None and not (_root() / stage.needs).is_dir():
            outcome, interrupted = _not_run(f"no folder {stage.needs} beside the packages"), False
        else:
            seconds = max(deadline - time.monotonic() - reserved, 1)
            outcome, interrupted = _run_stage(stage, arguments, seconds, folder)
        result["stages"][stage.name] = outcome
        result["interrupted"] = interrupted
        result["goals"] = _judged(result)
        write_result(folder / "gpu-check.json", result)
        if interrupted:
            break
    return result


def all_passed(result: GpuCheckResult) -> bool:
    """Whether every stage that could run ran to its end and found nothing wrong."""
    return all(stage["status"] in (PASSED, NOT_RUN) for stage in result["stages"].values())


def _judged(result: GpuCheckResult) -> list[Judged]:
    stages = result["stages"]
    found = {name: stage["result"] for name, stage in stages.items() if stage["result"] is not None}
    reasons = {name: stage["reason"] or stage["status"] for name, stage in stages.items()}
    devices = result["environment"]["cuda_devices"]
    return judge_goals(found, reasons, devices[0] if devices else None)


def _run_stage(stage: Stage, arguments: str, seconds: float, folder: Path) -> tuple[StageResult, bool]:
    """What became of the stage, and whether Ctrl-C ended it."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    interrupted = timed_out = False
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "result"
        filled = arguments.format(output=shlex.quote(str(output)), parallel=_parallel())
        command = [sys.executable, *shlex.split(filled)]
        with (folder / f"{stage.name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=_root(),
                env=_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_hear_ctrl_c,
            )
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                timed_out = True
            except KeyboardInterrupt:
                interrupted = True
            finally:
                _stop(process)
        result, unreadable = _read(stage, output)
    status = TIMED_OUT if timed_out else PASSED if process.returncode == 0 else FAILED
    reason = None
    if timed_out:
        reason = f"stopped after {seconds:.0f} s"
    elif interrupted:
        status, reason = FAILED, "interrupted"
    elif process.returncode != 0:
        reason = f"exit code {process.returncode}, see {stage.name}.log"
    elif result is None:
        status, reason = FAILED, unreadable
    outcome = StageResult(
        status=status,
        reason=reason,
        seconds=round(time.monotonic() - begun, 1),
        exit_code=process.returncode,
        result=result,
    )
    return outcome, interrupted


def _hear_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would its children, whom it is to stop."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a stage that still runs: first as Ctrl-C does, so that it writes what is finished, then for good."""
    if process.poll() is None:
        _signal(process, signal.SIGINT)
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the stage and all that it started: it leads a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _read(stage: Stage, output: Path) -> tuple[dict[str, Any] | None, str]:
    try:
        return stage.read(output), ""
    except (OSError, ValueError, ElementTree.ParseError) as error:
        return None, f"no result ({type(error).__name__})"


def _not_run(reason: str) -> StageResult:
    return StageResult(status=NOT_RUN, reason=reason, seconds=0.0, exit_code=None, result=None)


def _parallel() -> str:
    """Compiling kernels takes most of the time of the tests, and one process compiles one at a time."""
    return f"-n {min(8, os.cpu_count() or 1)}" if importlib.util.find_spec("xdist") else ""


def _root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[3]


def _environment() -> Mapping[str, str]:
    """This process's, with the three packages where they were found, installed or not."""
    specs = [importlib.util.find_spec(name) for name in ("dainv", "dainv_kernels", "dainv_bench")]
    homes = [str(Path(spec.origin).resolve().parents[1]) for spec in specs if spec is not None and spec.origin]
    paths = [*dict.fromkeys(homes), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
