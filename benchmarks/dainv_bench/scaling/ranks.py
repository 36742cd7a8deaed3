"""The objective in several processes that share a batch: each on its own part alone, or all on the joined batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, distributed

from dainv.errors import UserError
from dainv.objective import Objective, combine, layer_weights
from dainv_bench.scaling.axes import Point
from dainv_bench.scaling.objectives import (
    Exact,
    Features,
    OfFeatures,
    check,
    exact,
    forward_backward,
    make_features,
)
from dainv_bench.scores.process import Ended, Process
from dainv_kernels import Groups

LOCAL, GLOBAL = "local statistics", "global statistics"
DESCRIPTIONS = {
    LOCAL: "dainv's objective of B/ranks samples in each process, one thread each, and a barrier",
    GLOBAL: "the same with statistics of all processes: the loss and gradient of the whole batch",
}


def _rank(rank: int, ranks: int, store: Path, part: Point, seed: int) -> Callable[[str], None]:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=store.as_uri(), rank=rank, world_size=ranks)
    device = torch.device("cpu")
    groups, weights = Groups.consecutive(part.B // part.M, part.M, device), layer_weights(part.L)
    methods: dict[str, OfFeatures] = {
        name: partial(_objective, groups=groups, weights=weights, process_group=group)
        for name, group in ((LOCAL, None), (GLOBAL, distributed.group.WORLD))
    }
    of_all = [make_features(part, seed + other, device) for other in range(ranks)]
    features = of_all[rank]
    check(LOCAL, methods[LOCAL], features, exact(features, part), part)
    check(GLOBAL, methods[GLOBAL], features, of_whole_batch(of_all, rank, part), part)

    def step(method: str) -> None:
        forward_backward(methods[method], features)
        distributed.barrier()

    return step


def _objective(
    features: Features,
    groups: Groups,
    weights: tuple[float, ...],
    process_group: distributed.ProcessGroup | None,
) -> Objective:
    return combine(torch.zeros(()), features, groups, weights, process_group=process_group)


def of_whole_batch(of_all: list[dict[str, Tensor]], rank: int, part: Point) -> list[Exact]:
    """What a process should find: the whole batch's losses, and its part of their gradients times the processes."""
    ranks = len(of_all)
    whole = {name: torch.cat([one[name].detach() for one in of_all]) for name in of_all[rank]}
    return [
        Exact(loss, ranks * gradient.chunk(ranks)[rank])
        for loss, gradient in exact(whole, replace(part, B=ranks * part.B))
    ]


def part_of(point: Point, ranks: int) -> Point:
    """What each process has of the batch.

    Raises:
        UserError: the batch cannot be shared so that every process has two images or more.
    """
    if point.B % ranks:
        raise UserError(f"ranks: {ranks} processes cannot share {point.B} samples equally")
    return replace(point, B=point.B // ranks).checked(f"ranks = {ranks}")


class Ranks:
    """Processes that take one step together when called; to be used with ``with``.

    Args:
        ranks: how many.
        point: the whole batch.
        seed: of the features.

    Raises:
        UserError: the batch cannot be shared so that every process has two images or more; or a method disagrees.
    """

    def __init__(self, ranks: int, point: Point, seed: int) -> None:
        part = part_of(point, ranks)
        with ExitStack() as started:
            folder = started.enter_context(TemporaryDirectory())
            store = Path(folder) / "store"
            self._processes = [
                started.enter_context(Process(_rank, rank, ranks, store, part, seed)) for rank in range(ranks)
            ]
            self(LOCAL)  # until all are there
            self._end = started.pop_all().close

    def __call__(self, method: str) -> None:
        """One step, from the word go to the last process's answer.

        Args:
            method: with which statistics, a key of :data:`DESCRIPTIONS`.

        Raises:
            UserError: a process has ended, or its method disagrees.
        """
        for process in self._processes:
            process.send(method)
        try:
            for process in self._processes:
                process.receive()
        except Ended:
            raise UserError("ranks: a process ended early") from None

    def __enter__(self) -> Ranks:
        """Itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Kill the processes."""
        self._end()
