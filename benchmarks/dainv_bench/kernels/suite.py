"""``dainv-bench kernels``: the operator alone, forward and backward, against memory bandwidth and against its peers."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from functools import partial
from statistics import median
from typing import Any, TypedDict

import numpy as np
import torch

from dainv.devices import resolve_device
from dainv.environment import environment
from dainv.errors import UserError
from dainv_bench.bandwidth import Copy, cache_bytes, gigabytes_per_second, sets_beyond_cache
from dainv_bench.kernels.accuracy import Errors, complaint, measure_errors
from dainv_bench.kernels.cases import DTYPES, InputSet, Workload, make_sets, workloads
from dainv_bench.kernels.methods import Method, Operation, methods
from dainv_bench.replay import DIRECTIONS, Timed, calls_on, recorder_for
from dainv_bench.results import SCHEMA, load_average
from dainv_bench.statistics import MINIMUM_ROUNDS, Interval, median_interval
from dainv_bench.timing import Round, interleave, queued_meter_for
from dainv_kernels import backend_status

_COPY = "copy"
_WARMUP = 1


@dataclass(frozen=True)
class KernelSettings:
    """Settings of ``dainv-bench kernels``; the command line documents each where it defines the option."""

    workloads: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("*",)
    backend: str = "all"
    dtype: tuple[str, ...] = ("float32", "bfloat16")
    batch_size: int = 128
    views: int = 8
    rounds: int = 20
    seconds: float = 480.0
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        if self.views < 2 or self.batch_size < 2 * self.views or self.batch_size % (2 * self.views):
            raise UserError(
                f"--batch-size {self.batch_size}: expected an even multiple of --views, and of those at least 2, "
                f"got {self.views}"
            )
        if self.rounds < MINIMUM_ROUNDS:
            raise UserError(f"--rounds: expected at least {MINIMUM_ROUNDS}, got {self.rounds}")
        if not self.seconds > 0:
            raise UserError(f"--seconds: expected a positive number, got {self.seconds}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed: expected 0 to 2^63 - 1, got {self.seed}")
        for name in self.dtype:
            if name not in DTYPES:
                raise UserError(f"--dtype: expected of {', '.join(DTYPES)}, got {name!r}")
        if self.backend != "all" and self.backend not in backend_status():
            raise UserError(f"--backend: expected all or one of {', '.join(backend_status())}, got {self.backend!r}")
        _refuse_unmatched("--workloads", self.workloads, [workload.name for workload in workloads(torch.float32)])
        _refuse_unmatched("--methods", self.methods, list(methods()))


class PassResult(TypedDict):
    """One direction of one method."""

    model_bytes: int  # what memory has to move at least
    calls: int  # in a sample
    how: str  # graph, launched or cpu
    milliseconds: list[float]  # of one call, one a round
    median_milliseconds: float
    gigabytes_per_second: float
    percent_of_copy: Interval  # paired with the copy of the same round


class MethodResult(TypedDict):
    """One method. Where it was not timed ``not_run`` or ``wrong`` says why and ``passes`` is empty."""

    description: str
    form: str
    ours: bool
    not_run: str | None
    wrong: str | None
    errors: Errors | None
    passes: dict[str, PassResult]


class WorkloadResult(TypedDict):
    """Everything about the same features."""

    dtype: str
    layers: list[dict[str, Any]]
    feature_bytes: int
    input_sets: int
    beyond_cache: bool  # False: so small that it was timed in the cache
    copy_bytes: int  # read and written by one copy
    copy_milliseconds: list[float]  # one a round
    copy_gigabytes_per_second: float
    methods: dict[str, MethodResult]
    orders: list[list[str]]


class KernelsResult(TypedDict):
    """What ``dainv-bench kernels`` writes; benchmarks/README.md explains every field."""

    schema: int
    suite: str
    date: str
    interrupted: bool
    environment: dict[str, Any]
    load_average: dict[str, list[float] | None]
    settings: dict[str, Any]
    workloads: dict[str, WorkloadResult]  # "NAME DTYPE"
    left_out: list[str]  # workloads for which there was no time


OnProgress = Callable[[str, int, int], None]
OnResult = Callable[[KernelsResult], None]


def measure(
    settings: KernelSettings,
    on_progress: OnProgress = lambda _what, _done, _all: None,
    on_result: OnResult = lambda _result: None,
) -> KernelsResult:
    """Check every method against float64, then time all of them side by side, workload by workload.

    Args:
        settings: what to measure.
        on_progress: told what is going on, how many workloads are done, and of how many.
        on_result: given all there is after each workload.

    Returns:
        The result; after a Ctrl-C that of the workloads and rounds finished until then.

    Raises:
        UserError: no such device.
        KeyboardInterrupt: before there was anything to keep.
    """
    device = resolve_device(settings.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {settings.device}: kernels can be timed on cpu and cuda")
    chosen = _chosen_methods(settings)
    planned = _chosen_workloads(settings, device)
    result = KernelsResult(
        schema=SCHEMA,
        suite="kernels",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        interrupted=False,
        environment=environment(),
        load_average={"before": load_average(), "after": None},
        settings=_resolved(settings, device),
        workloads={},
        left_out=[],
    )
    begun = time.monotonic()
    with _as_timed():
        copy = Copy(device)
        for done, workload in enumerate(planned):
            key = f"{workload.name} {_name_of(workload.cases[0].dtype)}"
            if done and time.monotonic() - begun > settings.seconds:
                result["left_out"].append(key)
                continue

            def tell(what: str, key: str = key, done: int = done) -> None:
                on_progress(f"{key}: {what}", done, len(planned))

            try:
                measured, interrupted = _measure_workload(workload, chosen, copy, settings, device, tell)
            except KeyboardInterrupt:
                measured, interrupted = None, True
            if measured is not None:
                result["workloads"][key] = measured
            result["interrupted"] = interrupted
            result["load_average"]["after"] = load_average()
            if result["workloads"]:
                on_result(result)
            _release(device)
            if interrupted:
                break
    if not result["workloads"]:
        raise KeyboardInterrupt
    on_result(result)
    return result


def wrong_methods(result: Mapping[str, Any]) -> list[str]:
    """One line for each method that was not timed because it is wrong."""
    return [
        f"{name} on {key}: {method['wrong']}"
        for key, workload in result["workloads"].items()
        for name, method in workload["methods"].items()
        if method["wrong"] is not None
    ]


def _measure_workload(
    workload: Workload,
    chosen: Sequence[Method],
    copy: Copy,
    settings: KernelSettings,
    device: torch.device,
    tell: Callable[[str], None],
) -> tuple[WorkloadResult | None, bool]:
    """Result, None where Ctrl-C came too early for one; and whether it came."""
    number = sets_beyond_cache(workload.nbytes, device)
    sets = make_sets(workload, number, settings.seed, device)
    found: dict[str, MethodResult] = {}
    timed: dict[tuple[str, str], Timed] = {}
    recorder = recorder_for(device)
    for method in chosen:
        tell(f"preparing {method.name}")
        found[method.name] = entry = _entry(method, workload, device)
        with recorder.stream():
            operation = _checked(method, entry, workload, sets, device)
        if operation is not None:
            timed.update(_timed(method, operation, entry, workload, sets, recorder.prepare))
    works = {f"{name} {direction}": one.work for (name, direction), one in timed.items()}
    copying = recorder.prepare(copy.calls)
    rounds = interleave(
        {_COPY: copying.work, **works},
        rounds=settings.rounds,
        warmup=_WARMUP,
        measure=queued_meter_for(device),
        seed=settings.seed,
        on_step=tell,
    )
    if len(rounds.finished) < MINIMUM_ROUNDS:
        return None, True
    copy_ms = [one[_COPY].milliseconds / copying.calls for one in rounds.finished]
    by_name = {method.name: method for method in chosen}
    for (name, direction), one in timed.items():
        nbytes = by_name[name].nbytes(workload, direction)
        found[name]["passes"][direction] = _pass_result(
            nbytes, one, _samples(rounds.finished, f"{name} {direction}", one), copy.nbytes, copy_ms
        )
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
        methods=found,
        orders=[list(one) for one in rounds.finished],
    )
    return result, rounds.interrupted


def _entry(method: Method, workload: Workload, device: torch.device) -> MethodResult:
    return MethodResult(
        description=method.description,
        form=method.form,
        ours=method.ours,
        not_run=method.why_not(workload, device),
        wrong=None,
        errors=None,
        passes={},
    )


def _checked(
    method: Method, entry: MethodResult, workload: Workload, sets: Sequence[InputSet], device: torch.device
) -> Operation | None:
    """The operation, if it runs here and is right; else the entry says why not."""
    if entry["not_run"] is not None:
        return None
    try:
        operation = method.prepare(workload, device)
        errors = measure_errors(method, operation, workload, sets[0])
        entry["errors"], entry["wrong"] = errors, complaint(errors)
    except ArithmeticError as error:
        entry["wrong"] = str(error)
    except Exception as error:  # whatever a peer or a compiler raises: the others can still be timed
        reason = _first_line(error)
        if method.ours and not isinstance(error, (ValueError, NotImplementedError, torch.OutOfMemoryError)):
            entry["wrong"] = reason
        else:
            entry["not_run"] = reason
    return operation if entry["not_run"] is None and entry["wrong"] is None else None


def _timed(
    method: Method,
    operation: Operation,
    entry: MethodResult,
    workload: Workload,
    sets: Sequence[InputSet],
    prepare: Callable[[Callable[[], list[Callable[[], object]]]], Timed],
) -> dict[tuple[str, str], Timed]:
    found = {}
    try:
        for direction in DIRECTIONS:
            found[method.name, direction] = prepare(partial(calls_on, method, operation, workload, sets, direction))
    except torch.OutOfMemoryError as error:
        entry["not_run"] = _first_line(error)
        return {}
    return found


def _samples(rounds: Sequence[Round], name: str, timed: Timed) -> list[float]:
    """Milliseconds of one call, a round each."""
    return [one[name].milliseconds / timed.calls for one in rounds]


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


def _chosen_methods(settings: KernelSettings) -> list[Method]:
    backends = tuple(backend_status())
    return [
        method
        for name, method in methods().items()
        if any(fnmatchcase(name, pattern) for pattern in settings.methods)
        and (
            settings.backend == "all"
            or name.removeprefix("relu+") not in backends
            or name.removeprefix("relu+") == settings.backend
        )
    ]


def _chosen_workloads(settings: KernelSettings, device: torch.device) -> list[Workload]:
    """In the order of the patterns; each in all dtypes, one after the other."""
    by_dtype = [workloads(DTYPES[name], settings.batch_size, settings.views) for name in settings.dtype]
    matching = [
        one
        for pattern in settings.workloads
        for of_each_dtype in zip(*by_dtype, strict=True)
        for one in of_each_dtype
        # A gigabyte is for a GPU, unless it is asked for by name.
        if fnmatchcase(one.name, pattern) and (one.name != "gigabyte" or device.type == "cuda" or pattern == one.name)
    ]
    return list(dict.fromkeys(matching))


def _refuse_unmatched(option: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"{option}: nothing is called {pattern!r}; there are {', '.join(names)}")


def _resolved(settings: KernelSettings, device: torch.device) -> dict[str, Any]:
    return {
        "workloads": list(settings.workloads),
        "methods": list(settings.methods),
        "backend": settings.backend,
        "dtype": list(settings.dtype),
        "batch_size": settings.batch_size,
        "views": settings.views,
        "rounds": settings.rounds,
        "seconds": None if math.isinf(settings.seconds) else settings.seconds,
        "device": str(device),
        "seed": settings.seed,
        "cache_bytes": cache_bytes(device),
        "tf32_products": False,
    }


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


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
