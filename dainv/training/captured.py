"""A training step recorded once as a CUDA graph and replayed on new batches: one launch instead of hundreds.

A graph replays the same kernels on the same addresses. So the batch is copied to where the step was recorded, the step
reads nothing back to the host, gradients live in the graph's own memory, a learning rate that changes has to be a
tensor, and a generator that is drawn from has to be known to the graph. The first steps run before the recording, on
the stream of the recording: they compile kernels, let cuDNN choose its algorithms and make the state of the optimizer.
Autograd remembers on which stream it first met a parameter, and the default stream cannot be recorded. Afterwards
everything is put back, as if these steps had never been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")

# From then on a graph finds the generators that are drawn from, and torch warns of whoever names them.
_FINDS_GENERATORS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14)


class CaptureError(Exception):
    """A step that cannot be recorded; says why. Nothing has changed."""


class CapturedStep(Generic[Result]):
    """Calls ``step`` on static copies of its inputs; on a CUDA device as a graph recorded here.

    Args:
        step: what to record; changes nothing but the module, the optimizer and the generators.
        example: inputs, of the shapes, layouts and device of all later ones.
        module: whose parameters and buffers the step changes.
        optimizer: whose state the step changes. Zeros have to mean no state yet, as for SGD and Adam.
        generators: that the step draws from, beside torch's global ones; on the device of the inputs.
        warmup: steps before the recording.

    Raises:
        CaptureError: the step does what a graph cannot hold, such as reading a value back to the host.
    """

    def __init__(
        self,
        step: Callable[..., Result],
        example: Sequence[Tensor],
        *,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        generators: Sequence[torch.Generator] = (),
        warmup: int = 3,
    ) -> None:
        self._inputs = tuple(torch.empty_like(x).copy_(x) for x in example)
        self._step = step
        self._graph: torch.cuda.CUDAGraph | None = None
        before = _Snapshot(module, optimizer, generators)
        device = self._inputs[0].device
        if device.type == "cuda":
            with torch.cuda.device(device), torch.random.fork_rng(devices=[device]):
                default = torch.cuda.default_generators[torch.cuda.current_device()]
                self._result = self._record(warmup, before, [default])
        else:
            with torch.random.fork_rng(devices=[]):
                for _ in range(warmup):
                    step(*self._inputs)
            before.restore()

    def _record(self, warmup: int, before: _Snapshot, others: Sequence[torch.Generator] = ()) -> Result:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warmup):
                self._step(*self._inputs)
            before.restore()
        torch.cuda.current_stream().wait_stream(stream)
        spare = [(generator, generator.clone_state()) for generator in (*before.generators, *others)]
        graph = torch.cuda.CUDAGraph()
        if not _FINDS_GENERATORS:
            for generator in before.generators:
                graph.register_generator_state(generator)
        try:
            # Runs nothing. Other threads may allocate meanwhile: that of a DataLoader pins the memory of its batches.
            # The outer context: a recording that is broken off leaves its stream the current one.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                result = self._step(*self._inputs)
        except RuntimeError as error:
            # A recording that is broken off may not let go of its generators, which could then draw no more.
            for generator, state in spare:
                generator.graphsafe_set_state(state)
            before.restore()
            raise CaptureError(_reason(error)) from error
        self._graph = graph
        return result

    @property
    def recorded(self) -> bool:
        """Whether there is a graph; on a CPU the step itself is called."""
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> Result:
        """Do the step.

        Args:
            inputs: as the example.

        Returns:
            What the step returns. Where it was recorded, the same tensors each time: the next step overwrites them.
        """
        for static, new in zip(self._inputs, inputs, strict=True):
            static.copy_(new, non_blocking=True)
        if self._graph is None:
            return self._step(*self._inputs)
        self._graph.replay()
        return self._result


def _reason(error: BaseException) -> str:
    """A line: the first error, not that the recording could not be ended because of it."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class _Snapshot:
    """Parameters, buffers, the state of an optimizer and of generators, to be put back in place."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, generators: Sequence[torch.Generator] = ()
    ) -> None:
        self._module = [(x, x.detach().clone()) for x in (*module.parameters(), *module.buffers())]
        self._optimizer = optimizer
        self._state = {id(x): x.clone() for x in _state_of(optimizer)}
        self.generators = tuple(generators)
        self._drawn = [generator.get_state() for generator in generators]

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, saved in self._module:
            tensor.copy_(saved)
        for tensor in _state_of(self._optimizer):
            if id(tensor) in self._state:
                tensor.copy_(self._state[id(tensor)])
            else:
                tensor.zero_()
        self._optimizer.zero_grad(set_to_none=True)
        for generator, state in zip(self.generators, self._drawn, strict=True):
            generator.set_state(state)


def _state_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    entries: list[dict[str, Any]] = list(optimizer.state.values())
    return [value for entry in entries for value in entry.values() if isinstance(value, Tensor)]
