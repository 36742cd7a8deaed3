"""What the processes of ``test_ranks.py`` do, and how they are started."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import dainv
from dainv.errors import UserError
from dainv.models.allcnn import AllCNNC
from dainv.objective import combine
from dainv.ranks import Ranks
from dainv_kernels import Groups

IMAGES, VIEWS, CLASSES = 5, 3, 4  # five source images among two or three processes: unequal shares
TIMEOUT = timedelta(seconds=60)


def started(work: Callable[[Ranks, str], Any], folder: Path, size: int, ask: str = "") -> list[Any]:
    """Call ``work(ranks, ask)`` in processes as ``torchrun`` sets them up; what each returned, or its error's text."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo"])  # which takes longer than all that is done here
    folder.mkdir(exist_ok=True)
    processes = [context.Process(target=_start, args=(work, rank, size, folder, ask)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(2 * TIMEOUT.total_seconds())
        assert process.exitcode is not None, "a process hangs"
    files = [folder / f"{rank}.pt" for rank in range(size)]
    return [torch.load(file, weights_only=True) if file.exists() else None for file in files]


def _start(work: Callable[[Ranks, str], Any], rank: int, size: int, folder: Path, ask: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    try:
        with Ranks.from_environment("cpu", timeout=TIMEOUT, init_method=(folder / "store").as_uri()) as ranks:
            result = work(ranks, ask)
    except UserError as error:
        result = str(error)
    torch.save(result, folder / f"{rank}.pt")


def batch() -> tuple[Tensor, Tensor]:
    """Views of all source images, and their labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(IMAGES, 3, 8, 8, generator=generator, dtype=torch.float64).repeat_interleave(VIEWS, 0)
    images = images + 0.3 * torch.rand(images.shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (IMAGES,), generator=generator).repeat_interleave(VIEWS)


def network() -> AllCNNC:
    torch.manual_seed(0)
    return AllCNNC(n_classes=CLASSES, width=0.1).double()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def single() -> dict[str, Any]:
    """Loss and gradients of one process with the whole batch."""
    model, (images, labels) = network(), batch()
    objective = dainv.InvarianceObjective(model, "layer?.relu", alpha=0.5)
    found = objective(functional.cross_entropy(model(images), labels), Groups.consecutive(IMAGES, VIEWS))
    found.total.backward()
    return {"losses": _numbers(found.invariance), "gradients": gradients(model)}


def parallel(ranks: Ranks, _ask: str) -> dict[str, Any]:
    """The same, dealt to the processes: by the objective with groups given late and early, and by ``combine``."""
    images, labels = (tensor.unflatten(0, (IMAGES, VIEWS))[ranks.share(IMAGES)].flatten(0, 1) for tensor in batch())
    groups = Groups.consecutive(len(labels) // VIEWS, VIEWS)
    share = ranks.size * len(labels) / (IMAGES * VIEWS)  # of a mean over samples where parts are not equal
    found = {}
    for way in ("late", "early", "combine"):
        model = network()
        replicas = DistributedDataParallel(model)
        if way == "combine":
            logits, activations = model.forward_taps(images)
            task = share * functional.cross_entropy(logits, labels)
            weights = dainv.layer_weights(9, 0.5)
            objective = combine(task, activations, groups, weights, process_group=ranks.group)
        else:
            early = {"groups": groups} if way == "early" else {}
            listening = dainv.InvarianceObjective(model, "layer?.relu", alpha=0.5, process_group=ranks.group, **early)
            task = share * functional.cross_entropy(replicas(images), labels)
            objective = listening(task, *([] if early else [groups]))
        objective.total.backward()
        if way == "combine":  # beside DistributedDataParallel: its average by hand
            for parameter in model.parameters():
                assert parameter.grad is not None
                ranks.sum_(parameter.grad).div_(ranks.size)
        found[way] = {"losses": _numbers(objective.invariance), "gradients": gradients(model)}
    found["methods"] = methods(ranks)
    return found


def methods(ranks: Ranks) -> dict[str, Any]:
    ranks.barrier()
    return {
        "sum": ranks.sum_(torch.tensor([1.0, ranks.rank])),
        "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        "share": [ranks.share(IMAGES).start, ranks.share(IMAGES).stop],
    }


def lost(ranks: Ranks, how: str) -> str:
    """Rank 1 does not come to the loss; what becomes of the others?"""
    ranks.barrier()  # who goes while others are still joining ends them too, with another message
    group = ranks.group
    if how == "hangs":
        group = distributed.new_group(timeout=timedelta(seconds=3))  # when all have arrived, so that it can be short
    if ranks.rank == 1:
        if how == "raises":
            raise UserError("the disk is full")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.barrier()  # where nobody comes
    ids = torch.tensor([0, 0, 1, 1])
    combine(torch.zeros(()), {"layer": torch.ones(4, 2)}, ids, [1.0], process_group=group)
    return "done"


def _numbers(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss.detach() for name, loss in losses.items()}
