"""DistributedDataParallel: every process has some source images with all their views; the statistics are global.

With ``process_group`` the losses are those of the joined batch, on every process, and so are the gradients: N processes
train as one would with a batch N times as large. Without it each process compares its own samples only.
Run it with ``torchrun --nproc-per-node 2 examples/ddp.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import dainv
from dainv.data import load_data

IMAGES, VIEWS = 8, 8  # in the batch of each process


def epoch_after_epoch(
    loader: DataLoader[tuple[Tensor, ...]], sampler: DistributedSampler[int]
) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end; every epoch has an order of its own, the same on all processes."""
    for epoch in count():
        sampler.set_epoch(epoch)
        yield from loader


def main(steps: int = 60, alpha: float = 0.1) -> dict[str, float]:
    """Train, and return the invariance loss of each layer on the last batch of all processes."""
    gpu = torch.cuda.is_available()
    distributed.init_process_group("nccl" if gpu else "gloo")
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if gpu else torch.device("cpu")
    torch.manual_seed(rank)  # other views on every process; DDP starts all from the parameters of rank 0

    digits = load_data("digits").train
    sampler: DistributedSampler[int] = DistributedSampler(range(len(digits)), drop_last=True)  # deals images, not views
    data = TensorDataset(digits.images / 255, digits.labels)
    batches = epoch_after_epoch(DataLoader(data, IMAGES, sampler=sampler, drop_last=True), sampler)

    model = dainv.AllCNNC(width=0.1, batch_norm=True).to(device)
    objective = dainv.InvarianceObjective(
        model, "layer?", alpha=alpha, groups=dainv.Groups.consecutive(IMAGES, VIEWS, device),
        process_group=distributed.group.WORLD,
    )  # fmt: skip
    parallel: nn.Module = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(model) if gpu else model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.05, momentum=0.9)
    augment = dainv.augmentation("heavier")

    for step in range(1, steps + 1):
        images, labels = (part.to(device).repeat_interleave(VIEWS, dim=0) for part in next(batches))
        loss = objective(functional.cross_entropy(parallel(augment(images)), labels))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        if step % 20 == 0 and rank == 0:
            print(f"step {step}, {processes} processes  invariance loss at layer8 {loss.invariance['layer8']:.3f}")
    distributed.destroy_process_group()
    return {name: float(value.detach()) for name, value in loss.invariance.items()}


if __name__ == "__main__":
    main()
