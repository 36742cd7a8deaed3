"""A stage as a process of its own with a time limit: a crash or a hang costs no other stage."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict
from xml.etree import ElementTree

from dainv_bench.gpu.stages import Stage

PASSED, FAILED, TIMED_OUT, NOT_RUN = "passed", "failed", "timed out", "not run"
LOG = "gpu-check.log"
ROOT = Path(__file__).resolve().parents[3]  # the checkout

_SECONDS_TO_STOP = 10  # after Ctrl-C, to write what is finished, before the process is killed
_MOST_PROCESSES = 16


class StageResult(TypedDict):
    """What became of a stage."""

    status: str  # passed, failed, timed out or not run
    reason: str | None
    seconds: float
    exit_code: int | None
    result: dict[str, Any] | None


def not_run(reason: str) -> StageResult:
    """A stage that was not."""
    return StageResult(status=NOT_RUN, reason=reason, seconds=0.0, exit_code=None, result=None)


def run_stage(stage: Stage, arguments: str, seconds: float, folder: Path) -> tuple[StageResult, bool]:
    """Run a stage; all it says is added to the log.

    Args:
        stage: what to run.
        arguments: of the stage, with a GPU or without.
        seconds: after which it is stopped.
        folder: of the log.

    Returns:
        What became of it, and whether Ctrl-C ended it.
    """
    begun = time.monotonic()
    interrupted = timed_out = False
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "result"
        command = shlex.split(arguments.format(output=shlex.quote(str(output)), parallel=_parallel()))
        with (folder / LOG).open("ab") as log:
            log.write(f"\n=== {stage.name}: python {arguments}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
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
        reason = f"exit code {process.returncode}, see {LOG}"
    elif result is None:
        status, reason = FAILED, unreadable
    took = round(time.monotonic() - begun, 1)
    return StageResult(
        status=status, reason=reason, seconds=took, exit_code=process.returncode, result=result
    ), interrupted


def _hear_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would its children, whom it is to stop."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a stage that still runs: first as Ctrl-C does, so that it writes what is finished, then for good."""
    if process.poll() is None:
        _signal(process, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_STOP)
    _signal(process, signal.SIGKILL)  # what it has started may still run, and keep the GPU busy
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the stage and all that it started: it leads a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _read(stage: Stage, output: Path) -> tuple[dict[str, Any] | None, str]:
    try:
        return stage.read(output), ""
    except (OSError, ValueError, ElementTree.ParseError) as error:
        return None, f"no result ({type(error).__name__})"


def _parallel() -> str:
    """Compiling kernels takes most of the time of the tests, and one process compiles one at a time.

    A kernel that never ends cannot be interrupted, but its process can be killed and replaced.
    """
    if importlib.util.find_spec("xdist") is None:
        return ""
    hanging = " --timeout 75 --timeout-method thread" if importlib.util.find_spec("pytest_timeout") else ""
    return f"-n {min(_MOST_PROCESSES, os.cpu_count() or 1)}{hanging}"


def _environment() -> Mapping[str, str]:
    """This process's, with the three packages where they were found, installed or not."""
    specs = [importlib.util.find_spec(name) for name in ("dainv", "dainv_kernels", "dainv_bench")]
    homes = [str(Path(spec.origin).resolve().parents[1]) for spec in specs if spec is not None and spec.origin]
    paths = [*dict.fromkeys(homes), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
