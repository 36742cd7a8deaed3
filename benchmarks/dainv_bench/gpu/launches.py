"""``dainv-bench launches``: what a training step launches on a GPU, and whether the host ever waits for it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch

from dainv.devices import resolve_device
from dainv.errors import UserError
from dainv_bench.kernels.replay import waits_for_gpu
from dainv_bench.overhead.arms import ARMS, BASELINE, published_problem
from dainv_bench.overhead.training_step import TrainingStep
from dainv_bench.results import Head, head_of
from dainv_bench.settings import StepSettings
from dainv_bench.workload import make_batches, make_network

_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of the profiler's trace


class ArmLaunches(TypedDict):
    """One arm; ``not_run`` says why it is empty."""

    not_run: str | None
    host_waits: str | None  # None: the host never waits for the device
    launches: int | None
    beyond_baseline: int | None
    more: dict[str, int]  # kernels that the baseline does not launch, or not so often
    fewer: dict[str, int]


class LaunchesResult(Head):
    """What ``dainv-bench launches`` writes."""

    settings: dict[str, Any]
    arms: dict[str, ArmLaunches]


def measure(device_name: str = "auto", batch_size: int = 128, views: int = 8, seed: int = 0) -> LaunchesResult:
    """Profile one eager step of each arm, after some steps of warm-up.

    A recorded step launches the same kernels, from one graph.

    Args:
        device_name: a CUDA device.
        batch_size: B.
        views: M.
        seed: of parameters and batches.

    Raises:
        UserError: a setting outside its range, no CUDA device, or a profiler that sees nothing of it.
    """
    settings = StepSettings(device=device_name, batch_size=batch_size, views=views, seed=seed)
    device = resolve_device(device_name)
    if device.type != "cuda":
        raise UserError(f"--device {device_name}: launches are counted on a CUDA device, and there is none")
    network = make_network(1.0, False, seed, device)
    problem = published_problem(network, settings.n_images, views, device)
    batches = make_batches(2, problem.n_images, views, seed, device)
    counts: dict[str, Counter[str]] = {}
    waits: dict[str, str | None] = {}
    not_run: dict[str, str | None] = {name: arm.why_not(device) for name, arm in ARMS.items()}
    for name, arm in ARMS.items():
        if not_run[name] is None:
            step = TrainingStep(network, arm.prepare(problem), batches)
            for number in range(3):
                step(number)
            waits[name] = waits_for_gpu(partial(step, 3))
            _profiled(partial(step, 4))  # the profiler's own first time
            counts[name] = _profiled(partial(step, 5))
            if not counts[name]:
                raise UserError("nothing counted: torch's profiler sees nothing of what runs on this GPU")
    return LaunchesResult(
        **head_of("launches"),
        settings={"batch_size": batch_size, "views": views, "seed": seed, "device": str(device)},
        arms={name: _against(counts, waits, name, not_run[name]) for name in ARMS},
    )


def _against(
    counts: Mapping[str, Counter[str]], waits: Mapping[str, str | None], name: str, not_run: str | None
) -> ArmLaunches:
    if name not in counts:
        return ArmLaunches(not_run=not_run, host_waits=None, launches=None, beyond_baseline=None, more={}, fewer={})
    mine, baseline = counts[name], counts[BASELINE]
    return ArmLaunches(
        not_run=None,
        host_waits=waits[name],
        launches=mine.total(),
        beyond_baseline=mine.total() - baseline.total(),
        more=dict(mine - baseline),
        fewer=dict(baseline - mine),
    )


def _profiled(work: Callable[[], object]) -> Counter[str]:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        work()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        return launched(json.loads(trace.read_text()))


def launched(trace: Mapping[str, Any]) -> Counter[str]:
    """What ran on the device, by name, from the trace that torch's profiler exports."""
    return Counter(event["name"] for event in trace["traceEvents"] if event.get("cat") in _ON_DEVICE)
