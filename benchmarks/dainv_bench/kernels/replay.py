"""What is timed of a method: calls on one input set after the other; on a GPU recorded as a CUDA graph and replayed.

A kernel of a few microseconds is shorter than its launch from Python. A graph of many calls leaves the launches out,
and since every call has input and output of its own, no call finds its data in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch

from dainv_bench.kernels.accuracy import upstream_of
from dainv_bench.kernels.cases import InputSet, Workload
from dainv_bench.kernels.methods import Method, Operation

DIRECTIONS = ("forward", "backward", "both")
_TURN_MS = 1.0  # how long a turn lasts on a GPU at least: events resolve half a microsecond
_LONGEST_TURN_MS = 50.0  # beyond it a turn is two calls
_MOST_REPEATS = 100

Call = Callable[[], object]


class Timed(NamedTuple):
    """What is measured in a turn.

    Attributes:
        work: does it; is given the number of the turn.
        calls: calls of the method in it.
        how: ``"graph"``: replayed; ``"launched"``: it waits for the GPU, which a graph cannot; ``"cpu"``.
    """

    work: Callable[[int], None]
    calls: int
    how: str


def calls_on(
    method: Method, operation: Operation, workload: Workload, sets: Sequence[InputSet], direction: str
) -> list[Call]:
    """One call a set. Those of ``"backward"`` have had their forward pass here, and keep it."""

    def call(inputs: InputSet) -> Call:
        upstream = upstream_of(method, workload, inputs)
        if direction == "forward":
            return lambda: operation(inputs.features)
        if direction == "both":
            return lambda: torch.autograd.grad(operation(inputs.features), inputs.features, upstream)
        outputs = operation(inputs.features)
        return lambda: torch.autograd.grad(outputs, inputs.features, upstream, retain_graph=True)

    return [call(inputs) for inputs in sets]


class OnCPU:
    """One call a turn, on the next input each time."""

    def stream(self) -> AbstractContextManager[None]:
        """Where calls are made; nowhere in particular."""
        return nullcontext()

    def prepare(self, make_calls: Callable[[], list[Call]]) -> Timed:
        """Make the calls and what goes through them in turn."""
        calls = make_calls()
        return Timed(lambda turn: _ignore(calls[turn % len(calls)]()), 1, "cpu")


class OnGPU:
    """All calls in a turn, several times if they are short.

    Everything recorded here shares one pool of memory: what a graph writes is garbage once another was replayed.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Everything that autograd meets an input in has to be done here.

        It runs a backward pass on the stream of its forward pass, remembers on which it first met an input, and the
        default stream cannot be recorded.
        """
        torch.cuda.synchronize(self._device)
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.synchronize(self._device)

    def prepare(self, make_calls: Callable[[], list[Call]]) -> Timed:
        """Make the calls, record them if they can be, and find out how many make a turn."""
        with torch.cuda.device(self._device):
            with self.stream():
                calls = make_calls()
                calls[0]()  # compiles what there is to compile
                calls = calls[: _within(_LONGEST_TURN_MS, self._milliseconds(calls[-1]), least=2)]
                waits = waits_for_gpu(calls[0])
            replay = (lambda: [call() for call in calls]) if waits else self._record(calls)
            replay()
            repeats = min(_MOST_REPEATS, 1 + _within(_TURN_MS, self._milliseconds(replay), least=0))

        def work(_turn: int) -> None:
            for _ in range(repeats):
                replay()

        return Timed(work, repeats * len(calls), "launched" if waits else "graph")

    def _record(self, calls: Sequence[Call]) -> Call:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            outputs = [call() for call in calls]  # all kept, so that no two calls write to the same place
        del outputs
        return _Recorded(graph, calls)

    def _milliseconds(self, work: Call) -> float:
        torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begun)


class _Recorded:
    """A graph, and the calls: it reads the memory of everything that they hold, and holds nothing itself."""

    def __init__(self, graph: torch.cuda.CUDAGraph, calls: Sequence[Call]) -> None:
        self._graph = graph
        self._calls = calls

    def __call__(self) -> None:
        self._graph.replay()


def _within(limit: float, each: float, least: int) -> int:
    return max(least, int(limit / max(each, 1e-6)))


def _ignore(_result: object) -> None:
    return None


def waits_for_gpu(work: Call) -> str | None:
    """None, or where the host waits for the GPU in it, as torch puts it."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return None


def recorder_for(device: torch.device) -> OnCPU | OnGPU:
    """What turns calls into something to time on a device."""
    return OnGPU(device) if device.type == "cuda" else OnCPU()
