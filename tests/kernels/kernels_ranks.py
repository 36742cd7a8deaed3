"""Cases for several processes: what each of them computes, and one process with all their samples."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from kernels_inputs import ids_of_sizes, noise, shuffled
from kernels_truth import true_loss
from torch import Tensor, distributed

from dainv_kernels import Groups, invariance_loss, relu_invariance

RANKS = 3
UPSTREAM = -2.5
SHAPE = (5, 3, 2)

# The groups of each rank; a case with two ranks takes the first two. Ids are the same on all: they are local.
DEALT: Mapping[str, tuple[Tensor, Tensor, Tensor]] = {
    "equal": (ids_of_sizes(3, 3, 3, 3),) * 3,
    "unequal": (ids_of_sizes(*[4] * 6), ids_of_sizes(*[3] * 5), ids_of_sizes(3, 3)),
    "ragged": (ids_of_sizes(1, 2, 5), shuffled(ids_of_sizes(3, 7, 1, 4)), ids_of_sizes(2)),
    "one-sample": (ids_of_sizes(3, 3), torch.zeros(1, dtype=torch.int64), torch.arange(5)),
    "no-pair": (torch.arange(3), torch.zeros(1, dtype=torch.int64), torch.arange(2)),
}


@dataclass(frozen=True)
class Case:
    """One call of the operator on all ranks."""

    dealt: str = "unequal"
    ranks: int = RANKS
    normalization: str = "pairs"
    dtype: torch.dtype = torch.float64
    backend: str = "torch"
    operation: str = "loss"  # or "relu", "bias", "inplace"
    mean: float = 0.0
    kind: str = "noise"  # or "constant", "constant-by-rank", "nan"
    channels_last: int | None = None  # the rank whose features are so

    def ids(self) -> list[Tensor]:
        return list(DEALT[self.dealt][: self.ranks])

    def features(self) -> list[Tensor]:
        """Of each rank, as rounded to the dtype."""
        sizes = [len(ids) for ids in self.ids()]
        x = self.mean + noise(sum(sizes), *SHAPE, seed=3)
        if self.kind == "nan":
            x[0, 1, 2, 0] = float("nan")
        parts = list(x.to(self.dtype).split(sizes))
        if self.kind.startswith("constant"):
            by_rank = self.kind == "constant-by-rank"
            parts = [torch.full_like(part, 0.1 + rank * by_rank) for rank, part in enumerate(parts)]
        return parts

    def bias(self) -> Tensor:
        return noise(SHAPE[0], seed=5).to(self.dtype)

    def of_activation(self, part: Tensor) -> Tensor:
        """A gradient from the next layer."""
        return noise(*part.shape, seed=len(part)).to(self.dtype)

    def on(self, rank: int, group: distributed.ProcessGroup) -> dict[str, Tensor]:
        """What a rank gets."""
        x, ids = self.features()[rank], self.ids()[rank]
        if rank == self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        groups = Groups.consecutive(4, 3) if self.dealt == "equal" else ids
        options: dict[str, Any] = {
            "normalization": self.normalization,
            "backend": self.backend,
            "process_group": group,
        }
        if self.operation == "loss":
            loss = invariance_loss(x, groups, **options)
            (UPSTREAM * loss).backward()
            return {"loss": loss.detach(), "gradient": _of(x)}
        bias = self.bias().requires_grad_() if self.operation == "bias" else None
        inplace = self.operation == "inplace"
        before = x * 1 if inplace else x  # a leaf cannot be overwritten
        y, loss = relu_invariance(before, groups, bias=bias, inplace=inplace, **options)
        ((y * self.of_activation(x)).sum() + UPSTREAM * loss).backward()
        found = {"loss": loss.detach(), "gradient": _of(x), "activation": y.detach()}
        return found if bias is None else {**found, "bias": _of(bias)}

    def joined(self) -> list[dict[str, Tensor]]:
        """What each rank should get, from all samples over explicit pairs in float64."""
        parts = [part.double().requires_grad_() for part in self.features()]
        ids = torch.cat([part + 100 * rank for rank, part in enumerate(self.ids())])
        y, total = torch.cat(parts), torch.zeros((), dtype=torch.float64)
        if self.operation != "loss":
            bias = self.bias().double().view(-1, 1, 1) if self.operation == "bias" else 0
            y = (y + bias).to(self.dtype).double().relu()
            total = (y * torch.cat([self.of_activation(part).double() for part in parts])).sum()
        loss = true_loss(y, ids, self.normalization)
        gradients = torch.autograd.grad(total + self.ranks * UPSTREAM * loss, parts)
        activations = y.detach().split([len(part) for part in parts])
        every = [
            {"loss": loss.detach(), "gradient": gradient, "activation": activation, "bias": gradient.sum([0, 2, 3])}
            for gradient, activation in zip(gradients, activations, strict=True)
        ]
        names = {"loss": 2, "bias": 4}.get(self.operation, 3)
        return [dict(list(one.items())[:names]) for one in every]


def _of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def spawned(work: Callable[[int], Any], folder: Path, ranks: int = RANKS) -> list[Any]:
    """Call ``work(rank)`` in processes that form a gloo group; what each returned."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo"])  # which takes longer than all cases together
    processes = [context.Process(target=_work, args=(work, rank, ranks, folder)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * ranks
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


def _work(work: Callable[[int], Any], rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=(folder / "store").as_uri(), rank=rank, world_size=ranks)
    torch.save(work(rank), folder / f"{rank}.pt")
    distributed.destroy_process_group()
