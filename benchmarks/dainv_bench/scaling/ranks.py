"""The objective in several processes that share a batch, and meet at a gloo barrier after every step.

``dainv`` has no batch statistics over processes yet, so that each takes Eq. 3 over its own part of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import distributed

from dainv.errors import UserError
from dainv_bench.scaling.axes import Point
from dainv_bench.scaling.objectives import METHODS, forward_backward, make_features
from dainv_bench.scores.process import Ended, Process

LOCAL, GLOBAL = "local statistics", "global statistics"
DESCRIPTIONS = {
    LOCAL: "backend torch on B/ranks samples in each process, one thread each, and a barrier",
    GLOBAL: "the same with sums over all processes: the loss and gradient of the whole batch",
}
WHY_NOT_GLOBAL = "not available: dainv has no batch statistics over processes yet"


def _rank(rank: int, ranks: int, store: Path, part: Point, seed: int) -> Callable[[object], None]:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=store.as_uri(), rank=rank, world_size=ranks)
    device = torch.device("cpu")
    of_features = METHODS["torch"].prepare(part, device)
    features = make_features(part, seed + rank, device)

    def step(_message: object) -> None:
        forward_backward(of_features, features)
        distributed.barrier()

    return step


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
        UserError: the batch cannot be shared so that every process has two images or more.
    """

    def __init__(self, ranks: int, point: Point, seed: int) -> None:
        part = part_of(point, ranks)
        with ExitStack() as started:
            folder = started.enter_context(TemporaryDirectory())
            store = Path(folder) / "store"
            self._processes = [
                started.enter_context(Process(_rank, rank, ranks, store, part, seed)) for rank in range(ranks)
            ]
            self()  # until all are there
            self._end = started.pop_all().close

    def __call__(self, _number: int = 0) -> None:
        """One step, from the word go to the last process's answer.

        Raises:
            UserError: a process has ended.
        """
        for process in self._processes:
            process.send(None)
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
