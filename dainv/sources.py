"""The source images of one training step after the other, from wherever they are to the device."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dainv.data import ImageSplit, SourceSampler, StreamedSplit
from dainv.errors import UserError

_EVERY_IMAGE = slice(None)


def source_batches(
    split: ImageSplit | StreamedSplit,
    sampler: SourceSampler,
    first_step: int = 0,
    share: slice = _EVERY_IMAGE,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Source images of the steps from ``first_step`` on, without end.

    Which images a step has follows from the sampler and the step alone: who begins later gets the same ones. Images
    in memory are indexed where they are; files are decoded ahead of time by ``split.workers`` processes, which end when
    the iterator is closed or forgotten. No random number is drawn and a GPU is never waited for.

    Args:
        split: the images.
        sampler: which of them make up a step.
        first_step: counted from 0.
        share: which of the K source images of each step are wanted; a rank takes its own.
        device: where they go.

    Yields:
        ``(k, C, H, W)`` uint8 images and ``(k,)`` int64 labels on the device.

    Raises:
        UserError: a file that is not a readable image; the message names it.
    """
    device = torch.device(device)
    if isinstance(split, StreamedSplit):
        yield from _streamed(split, sampler, first_step, share, device)
    else:
        for step in itertools.count(first_step):
            chosen = _sent(sampler.indices(step)[share], split.images.device)
            yield _sent(split.images[chosen], device), _sent(split.labels[chosen], device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; from the host by way of pinned memory, so that the host need not wait for the copy."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor if tensor.is_pinned() else tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class _Steps(Dataset[Any]):
    """The source images of a step, decoded; or what is wrong, which would lose its form if a worker raised it."""

    split: StreamedSplit
    sampler: SourceSampler
    share: slice

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor] | UserError:
        chosen = self.sampler.indices(step)[self.share]
        try:
            return self.split.decoded(chosen), self.split.labels[chosen]
        except UserError as error:
            return error


def _streamed(
    split: StreamedSplit, sampler: SourceSampler, first_step: int, share: slice, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    loader = DataLoader(
        _Steps(replace(split, labels=split.labels.cpu()), sampler, share),
        batch_size=None,  # an item is a step already
        sampler=itertools.count(first_step),
        num_workers=split.workers,
        worker_init_fn=_ignore_interruptions,
        generator=torch.Generator(),  # a seed for the workers would be drawn from the global one
        pin_memory=device.type == "cuda",
    )
    for found in loader:
        if isinstance(found, UserError):
            raise found
        images, labels = found
        yield _sent(images, device), _sent(labels, device)


def _ignore_interruptions(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; stopping in good order is the main process's task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
