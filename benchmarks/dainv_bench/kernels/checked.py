"""From a method to something to time: does it run here, is it right, and how are its calls made?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from dainv.models.foreign import first_line
from dainv_bench.kernels.accuracy import Truth, complaint, measure_errors
from dainv_bench.kernels.cases import InputSet, Workload
from dainv_bench.kernels.methods import Method, Operation
from dainv_bench.kernels.replay import DIRECTIONS, OnCPU, OnGPU, Timed, calls_on
from dainv_bench.kernels.results import MethodResult


def check_and_prepare(
    method: Method,
    workload: Workload,
    sets: Sequence[InputSet],
    truth_of: Callable[[str], Sequence[Truth]],
    recorder: OnCPU | OnGPU,
) -> tuple[MethodResult, dict[str, Timed]]:
    """The method's entry in the result, without times yet, and what to time of it, by direction.

    Where it cannot be run or is wrong the entry says why, and there is nothing to time.

    Args:
        method: what to check and to time.
        workload: what it is timed on.
        sets: the same input several times.
        truth_of: form -> what the first of them should give.
        recorder: makes calls something to time.
    """
    device = sets[0].features[0].device
    entry = MethodResult(
        description=method.description,
        form=method.form,
        ours=method.ours,
        not_run=method.why_not(workload, device),
        wrong=None,
        errors=None,
        passes={},
    )
    if entry["not_run"] is not None:
        return entry, {}
    with recorder.stream():
        operation = _checked(method, entry, workload, sets[0], truth_of)
    if operation is None:
        return entry, {}
    calls = partial(calls_on, method, operation, workload, sets)
    try:
        return entry, {direction: recorder.prepare(partial(calls, direction)) for direction in DIRECTIONS}
    except torch.OutOfMemoryError as error:
        entry["not_run"] = f"{type(error).__name__}: {first_line(error)}"
        return entry, {}


def _checked(
    method: Method,
    entry: MethodResult,
    workload: Workload,
    inputs: InputSet,
    truth_of: Callable[[str], Sequence[Truth]],
) -> Operation | None:
    """The operation, if it runs here and is right; else the entry says why not."""
    operation: Operation | None = None
    try:
        operation = method.prepare(workload, inputs.features[0].device)
        errors = measure_errors(method, operation, workload, inputs, truth_of(method.form))
        entry["errors"], entry["wrong"] = errors, complaint(errors)
    except ArithmeticError as error:
        entry["wrong"] = str(error)
    except Exception as error:  # whatever a peer or a compiler raises: the others can still be timed
        unexpected = not isinstance(error, (ValueError, NotImplementedError, torch.OutOfMemoryError))
        entry["wrong" if method.ours and unexpected else "not_run"] = f"{type(error).__name__}: {first_line(error)}"
    return operation if entry["not_run"] is None and entry["wrong"] is None else None
