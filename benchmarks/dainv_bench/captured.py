"""A training step recorded once as a CUDA graph and replayed on new batches: one launch instead of hundreds.

A graph replays the same kernels on the same addresses. So the batch is copied to where the step was recorded, the step
reads nothing back to the host, gradients live in the graph's own memory, and a learning rate that changes has to be a
tensor. The first steps run before the recording, on the stream of the recording: they compile kernels, let cuDNN choose
its algorithms and make the state of the optimizer. Autograd remembers on which stream it first met a parameter, and the
default stream cannot be recorded. Afterwards everything is put back, as if these steps had never been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dainv.objective import Objective

Result = TypeVar("Result")


def training_step(objective_of: Callable[..., Objective], optimizer: torch.optim.Optimizer) -> Callable[..., Objective]:
    """One update as a function of the batch: forward pass, loss, backward pass, optimizer.

    Args:
        objective_of: tensors of a batch to the objective; may be compiled.
        optimizer: of the parameters.

    Returns:
        The step. It returns the objective without its graph, so that nothing outlives the step.
    """

    def step(*batch: Tensor) -> Objective:
        optimizer.zero_grad(set_to_none=True)  # a backward pass then writes gradients instead of adding to them
        total, task, invariance = objective_of(*batch)
        total.backward()
        optimizer.step()
        return Objective(total.detach(), task.detach(), {name: loss.detach() for name, loss in invariance.items()})

    return step


def capturable_sgd(module: nn.Module, learning_rate: float, momentum: float) -> torch.optim.SGD:
    """Nesterov SGD whose learning rate is a tensor on the device, to be changed in place between replays."""
    device = next(module.parameters()).device
    if device.type != "cuda":
        return torch.optim.SGD(module.parameters(), lr=learning_rate, momentum=momentum, nesterov=True)
    # Only the fused form reads a learning rate on the device; the others would bring it to the host.
    rate = torch.tensor(learning_rate, device=device)
    return torch.optim.SGD(module.parameters(), lr=rate, momentum=momentum, nesterov=True, fused=True)


class CapturedStep(Generic[Result]):
    """Calls ``step`` on static copies of its inputs; on a CUDA device as a graph recorded here.

    Args:
        step: what to record; changes nothing but the module and the optimizer.
        example: inputs, of the shapes, layouts and device of all later ones.
        module: whose parameters and buffers the step changes.
        optimizer: whose state the step changes. Zeros have to mean no state yet, as for SGD and Adam.
        warmup: steps before the recording.
    """

    def __init__(
        self,
        step: Callable[..., Result],
        example: Sequence[Tensor],
        *,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        warmup: int = 3,
    ) -> None:
        self._inputs = tuple(torch.empty_like(x).copy_(x) for x in example)
        self._step = step
        self._graph: torch.cuda.CUDAGraph | None = None
        before = _Snapshot(module, optimizer)
        device = self._inputs[0].device
        if device.type == "cuda":
            with torch.cuda.device(device):
                self._result = self._record(warmup, before)
        else:
            for _ in range(warmup):
                step(*self._inputs)
            before.restore()

    def _record(self, warmup: int, before: _Snapshot) -> Result:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warmup):
                self._step(*self._inputs)
            before.restore()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):  # runs nothing
            result = self._step(*self._inputs)
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


class _Snapshot:
    """Parameters, buffers and the state of an optimizer, to be put back in place."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._module = [(x, x.detach().clone()) for x in (*module.parameters(), *module.buffers())]
        self._optimizer = optimizer
        self._state = {id(x): x.clone() for x in _state_of(optimizer)}

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


def _state_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    entries: list[dict[str, Any]] = list(optimizer.state.values())
    return [value for entry in entries for value in entry.values() if isinstance(value, Tensor)]
