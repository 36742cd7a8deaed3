"""Training on several devices: one process each, and every process has a share of each batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from dainv.errors import UserError
from dainv.ranks import Ranks


def check_share(ranks: Ranks, n_images: int, views: int, scope: str) -> slice:
    """The source images of each step that this process has.

    Args:
        ranks: the processes.
        n_images: K, source images in a batch.
        views: M, views of each.
        scope: ``"local"`` where each process takes the invariance losses of its own share.

    Raises:
        UserError: too few for all.
    """
    needed = 2 if scope == "local" and views == 1 else 1
    if n_images < needed * ranks.size:
        raise UserError(
            f"{n_images} source images a batch (--batch-size / --views) cannot be shared out among {ranks.size} "
            f"processes: expected at least {needed * ranks.size}"
        )
    return ranks.share(n_images)


def joined_statistics(
    network: nn.Module, ranks: Ranks, device: torch.device, message: Callable[[str], None]
) -> nn.Module:
    """The network, its batch normalisation over the batches of all processes where torch can do that.

    Args:
        network: changed in place; its parameters stay the same objects.
        ranks: the processes.
        device: of this process.
        message: told where each process normalises by its share of the batch instead.
    """
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    if ranks.size == 1 or not normalised:
        return network
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network, ranks.group)
        return converted
    message("batch normalisation: on a CPU each process normalises by its own share of the batch")
    return network


def shared_out(losses: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """The losses of a step, with gradients averaged over all processes."""
    if ranks.size == 1:
        return losses
    return DistributedDataParallel(
        losses,
        device_ids=[device.index] if device.type == "cuda" else None,
        process_group=ranks.group,
        gradient_as_bucket_view=True,
    )


def seed_draws(seed: int, step: int, rank: int) -> None:
    """Let what a network draws, such as dropout, follow from these.

    Each process draws its own, and a checkpoint, which one of them writes, has the state of none of the others.
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0]))


def same_buffers(network: nn.Module, ranks: Ranks) -> None:
    """Give all processes the running averages of the main one, which are those that are saved."""
    if ranks.group is not None:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0, group=ranks.group)
