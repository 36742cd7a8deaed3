"""Counts, in Triton's interpreter, how often kernels load and store each element of the tensors they are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor


class Moves:
    """What one launch does with one of its arguments.

    Attributes:
        loads: how often each element is loaded, in the shape of the tensor.
        stores: how often each element is stored.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._start, self._itemsize = tensor.data_ptr(), tensor.element_size()
        reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        counts = torch.zeros(2, reach, dtype=torch.int64)
        self._counts = dict(zip(("load", "store"), counts.numpy(), strict=True))
        self.loads, self.stores = (count.as_strided(tensor.shape, tensor.stride()) for count in counts)

    def count(self, what: str, addresses: np.ndarray) -> np.ndarray:
        """Count the addresses that belong to this tensor; says of each whether it does."""
        element = (addresses.astype(np.int64) - self._start) // self._itemsize
        mine = (element >= 0) & (element < len(self._counts[what]))
        np.add.at(self._counts[what], element[mine], 1)
        return mine

    def check_gaps(self) -> None:
        """Nothing between the rows of a tensor was touched."""
        assert (self.loads.sum(), self.stores.sum()) == tuple(count.sum() for count in self._counts.values())


class Launch(NamedTuple):
    """A kernel as it was run.

    Attributes:
        kernel: its name.
        grid: how many programs in each direction.
        arguments: what it did with those that are tensors.
        numbers: the other arguments.
        order: every load, store and barrier of any program, in their order, with the arguments that it touched; before
            those of an atomic its memory order, such as ACQUIRE_RELEASE.
    """

    kernel: str
    grid: tuple[int, ...]
    arguments: dict[str, Moves]
    numbers: dict[str, Any]
    order: list[tuple[str, set[str]]]


class Traffic:
    """What all launches did, in their order."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def only(self, kernel: str) -> Launch:
        """The one launch there was, which is of this kernel."""
        (launch,) = self.each(kernel)
        return launch

    def each(self, *kernels: str) -> list[Launch]:
        """All launches there were, which are of these kernels in this order."""
        assert tuple(launch.kernel for launch in self.launches) == kernels
        return self.launches

    def count(self, what: str, pointers: Any, mask: Any) -> None:
        """Called by the interpreter for every load and store; lanes that are masked out move nothing."""
        addresses = pointers.data[np.broadcast_to(mask.data, pointers.data.shape)]
        launch = self.launches[-1]
        found = {name: moves.count(what, addresses) for name, moves in launch.arguments.items()}
        assert np.logical_or.reduce([*found.values()]).all(), f"{launch.kernel}: a {what} outside of its arguments"
        launch.order.append((what, {name for name, mine in found.items() if mine.any()}))


@contextmanager
def counting() -> Iterator[Traffic]:
    """Count what the kernels launched inside load and store; anything outside of their arguments is an error."""
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

    traffic = Traffic()
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    atomic, run = InterpreterBuilder.create_atomic_rmw, GridExecutor.__call__

    def counted_load(builder: Any, pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        traffic.count("load", pointers, mask)
        return load(builder, pointers, mask, *rest, **named)

    def counted_store(builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        traffic.count("store", pointers, mask)
        return store(builder, pointers, value, mask, *rest, **named)

    def counted_atomic(
        builder: Any, operation: Any, pointers: Any, value: Any, mask: Any, order: Any, scope: Any
    ) -> Any:
        traffic.launches[-1].order.append((order.name, set()))
        traffic.count("load", pointers, mask)
        traffic.count("store", pointers, mask)
        return atomic(builder, operation, pointers, value, mask, order, scope)

    def counted_barrier(builder: Any) -> None:
        traffic.launches[-1].order.append(("barrier", set()))

    def counted_run(executor: Any, *values: Any, **named: Any) -> Any:
        given = {**dict(zip(executor.arg_names, values, strict=False)), **named}
        arguments = {name: Moves(value) for name, value in given.items() if isinstance(value, Tensor)}
        numbers = {name: value for name, value in given.items() if name not in arguments}
        traffic.launches.append(Launch(executor.fn.__name__, tuple(executor.grid), arguments, numbers, []))
        result = run(executor, *values, **named)
        for moves in arguments.values():
            moves.check_gaps()
        return result

    with (
        mock.patch.object(InterpreterBuilder, "create_masked_load", counted_load),
        mock.patch.object(InterpreterBuilder, "create_masked_store", counted_store),
        mock.patch.object(InterpreterBuilder, "create_atomic_rmw", counted_atomic),
        mock.patch.object(InterpreterBuilder, "create_barrier", counted_barrier),
        mock.patch.object(GridExecutor, "__call__", counted_run),
    ):
        yield traffic
