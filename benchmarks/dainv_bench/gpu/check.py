"""``dainv-bench gpu-check``: everything that only a GPU can show, in one call of under eight minutes.

What there is is written after every stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dainv_bench.gpu.goals import Judged, judge_goals
from dainv_bench.gpu.process import LOG, NOT_RUN, PASSED, ROOT, StageResult, not_run, run_stage
from dainv_bench.gpu.stages import STAGES, Stage
from dainv_bench.results import Head, head_of, write_result

RESULT = "gpu-check.json"
NO_GPU = "no CUDA device"


class GpuCheckResult(Head):
    """What ``dainv-bench gpu-check`` writes."""

    interrupted: bool
    stages: dict[str, StageResult]
    goals: list[Judged]


def run(
    folder: Path,
    stages: Sequence[Stage] = STAGES,
    total_seconds: float | None = None,
    on_stage: Callable[[str], None] = lambda _name: None,
    has_gpu: bool | None = None,
) -> GpuCheckResult:
    """Run all stages and judge the goals.

    Args:
        folder: where ``gpu-check.json`` and ``gpu-check.log`` go.
        stages: what to run.
        total_seconds: for all of them; by default what they may have together.
        on_stage: told the name of each stage before it runs.
        has_gpu: for tests; by default whether there is a CUDA device.

    Returns:
        What is in ``gpu-check.json``; after a Ctrl-C what was finished until then.

    Raises:
        UserError: the results cannot be written.
    """
    has_gpu = torch.cuda.is_available() if has_gpu is None else has_gpu
    result = GpuCheckResult(**head_of("gpu-check"), interrupted=False, stages={}, goals=[])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).unlink(missing_ok=True)
    reserved = sum(stage.seconds for stage in stages)
    deadline = time.monotonic() + (reserved if total_seconds is None else total_seconds)
    for stage in stages:
        reserved -= stage.seconds
        on_stage(stage.name)
        arguments = stage.arguments if has_gpu else stage.on_cpu
        if arguments is None:
            outcome, interrupted = not_run(NO_GPU), False
        elif stage.needs is not None and not (ROOT / stage.needs).is_dir():
            outcome, interrupted = not_run(f"no folder {stage.needs} beside the packages"), False
        else:
            seconds = max(deadline - time.monotonic() - reserved, 1)
            outcome, interrupted = run_stage(stage, arguments, seconds, folder)
        result["stages"][stage.name] = outcome
        result["interrupted"] = interrupted
        result["goals"] = _judged(result)
        write_result(folder / RESULT, result)
        if interrupted:
            break
    return result


def all_passed(result: GpuCheckResult) -> bool:
    """Whether every stage that could run ran to its end and found nothing wrong."""
    return all(stage["status"] in (PASSED, NOT_RUN) for stage in result["stages"].values())


def _judged(result: GpuCheckResult) -> list[Judged]:
    stages = result["stages"]
    found = {name: stage["result"] for name, stage in stages.items() if stage["result"] is not None}
    reasons = {name: stage["reason"] or stage["status"] for name, stage in stages.items() if stage["status"] != PASSED}
    devices = result["environment"]["cuda_devices"]
    return judge_goals(found, reasons, devices[0] if devices else None)
