"""``dainv-bench kernels``: the operator alone, forward and backward, against memory bandwidth and against its peers."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from statistics import median

import numpy as np
import torch

from dainv_bench.kernels.accuracy import truth_of
from dainv_bench.kernels.bandwidth import Copy, cache_bytes, gigabytes_per_second, sets_beyond_cache
from dainv_bench.kernels.cases import Workload, make_sets
from dainv_bench.kernels.checked import check_and_prepare
from dainv_bench.kernels.methods import Method
from dainv_bench.kernels.replay import Timed, recorder_for
from dainv_bench.kernels.results import KernelsResult, MethodResult, PassResult, WorkloadResult
from dainv_bench.kernels.settings import KernelSettings
from dainv_bench.progress import Tell, silent
from dainv_bench.results import begin, end
from dainv_bench.statistics import median_interval
from dainv_bench.timing import interleave, measure_each, meter_for

_COPY = "copy"
# Turns of each before it is timed. A GPU lowers its clocks while the host compiles, and takes its time to raise them.
_WARMUP = {"cpu": 1, "cuda": 5}


def measure(settings: KernelSettings, tell: Tell = silent) -> Iterator[KernelsResult]:
    """Check every method against float64, then time all of them side by side, workload by workload.

    Each workload may take an equal part of the time that is left when its rounds begin, so that heavy ones have fewer
    rounds than light ones.

    Args:
        settings: what to measure.
        tell: told what is going on, how many workloads are done, and of how many.

    Yields:
        After each workload the result as far as it is; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device.
        KeyboardInterrupt: before there was anything to keep.
    """
    device = settings.timed_device()
    chosen, planned = settings.chosen_methods(), settings.chosen_workloads(device)
    head = begin("kernels", settings.resolved(device, cache_bytes=cache_bytes(device), tf32_products=False))
    left_out: list[str] = []
    until = time.monotonic() + settings.seconds

    def in_time() -> Iterator[int]:
        for number, workload in enumerate(planned):
            if number and time.monotonic() > until:
                left_out.append(_key(workload))
            else:
                yield number

    def measure_workload(number: int) -> tuple[WorkloadResult, bool]:
        workload = planned[number]
        return _measure_workload(
            workload,
            chosen,
            copy,
            settings,
            share=lambda: (until - time.monotonic()) / (len(planned) - number),
            tell=lambda what: tell(f"{_key(workload)}: {what}", number, len(planned)),
        )

    with _as_timed():
        copy = Copy(device)
        for found, interrupted in measure_each(in_time(), measure_workload):
            measured = {_key(planned[number]): one for number, one in found.items()}
            yield (result := KernelsResult(**end(head, interrupted), workloads=measured, left_out=[]))
            _release(device)
    if left_out:
        yield {**result, "left_out": left_out}


def _key(workload: Workload) -> str:
    return f"{workload.name} {_name_of(workload.cases[0].dtype)}"


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _measure_workload(
    workload: Workload,
    chosen: Sequence[Method],
    copy: Copy,
    settings: KernelSettings,
    share: Callable[[], float],
    tell: Callable[[str], None],
) -> tuple[WorkloadResult, bool]:
    """Result, and whether Ctrl-C came."""
    device = copy.device
    number = sets_beyond_cache(workload.nbytes, device)
    sets = make_sets(workload, number, settings.seed, device)
    entries: dict[str, MethodResult] = {}
    timed: dict[tuple[Method, str], Timed] = {}
    recorder = recorder_for(device)
    truth = cache(lambda form: truth_of(form, workload, sets[0]))
    for method in chosen:
        tell(f"preparing {method.name}")
        entries[method.name], by_direction = check_and_prepare(method, workload, sets, truth, recorder)
        timed |= {(method, direction): one for direction, one in by_direction.items()}
    truth.cache_clear()
    copying = recorder.prepare(copy.calls)
    rounds = interleave(
        {_COPY: copying.work, **{f"{method.name} {direction}": one.work for (method, direction), one in timed.items()}},
        rounds=settings.rounds,
        warmup=_WARMUP[device.type],
        measure=meter_for(device, queued=True),
        seed=settings.seed,
        on_step=tell,
        seconds=share(),
    )
    copy_ms = [one / copying.calls for one in rounds.milliseconds(_COPY)]
    for (method, direction), one in timed.items():
        milliseconds = [turn / one.calls for turn in rounds.milliseconds(f"{method.name} {direction}")]
        nbytes = method.nbytes(workload, direction)
        entries[method.name]["passes"][direction] = _pass_result(nbytes, one, milliseconds, copy.nbytes, copy_ms)
    result = WorkloadResult(
        dtype=_name_of(workload.cases[0].dtype),
        layers=[
            {"batch": case.batch, "views": case.views, "shape": list(case.shape), "layout": case.layout}
            for case in workload.cases
        ],
        feature_bytes=workload.nbytes,
        input_sets=number,
        beyond_cache=number * workload.nbytes > cache_bytes(device),
        copy_bytes=copy.nbytes,
        copy_milliseconds=copy_ms,
        copy_gigabytes_per_second=gigabytes_per_second(copy.nbytes, median(copy_ms)),
        methods=entries,
        orders=rounds.orders,
    )
    return result, rounds.interrupted


def _pass_result(
    nbytes: int, timed: Timed, milliseconds: list[float], copy_nbytes: int, copy_ms: list[float]
) -> PassResult:
    shares = 100 * (nbytes / np.asarray(milliseconds)) / (copy_nbytes / np.asarray(copy_ms))
    return PassResult(
        model_bytes=nbytes,
        calls=timed.calls,
        how=timed.how,
        milliseconds=milliseconds,
        median_milliseconds=median(milliseconds),
        gigabytes_per_second=gigabytes_per_second(nbytes, median(milliseconds)),
        percent_of_copy=median_interval(shares),
    )


@contextmanager
def _as_timed() -> Iterator[None]:
    """No TF32, which would cost the Gram identity its digits; the compiler may specialise on every shape."""
    import torch._dynamo.config
    import torch._functorch.config

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    # A backward pass timed alone keeps what its forward pass saved, which a compiled one may otherwise overwrite.
    with torch._dynamo.config.patch(cache_size_limit=256), torch._functorch.config.patch(donated_buffer=False):
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
