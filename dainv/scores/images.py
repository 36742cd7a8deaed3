"""Where the images come from: a tensor, a data set or a loader, read in parts and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from dainv.data import ImageSplit, StreamedSplit
from dainv.image_checks import check_form
from dainv.models.foreign import first_line


class ImageSource(Protocol):
    """N images in a fixed order, read from any place on."""

    def __len__(self) -> int:
        """N."""

    def batches(self, start: int, stop: int, size: int) -> Iterator[Tensor]:
        """Images ``start`` to ``stop`` in batches of at most ``size``, ``(n, C, H, W)``."""


@dataclass(frozen=True)
class _OfTensor:
    images: Tensor
    order: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, start: int, stop: int, size: int) -> Iterator[Tensor]:
        for first in range(start, stop, size):
            part = slice(first, min(first + size, stop))
            yield self.images[part] if self.order is None else self.images[self.order[part].to(self.images.device)]


@dataclass(frozen=True)
class SplitImages:
    """Some images of a data set's split; a batch becomes float when it is read.

    Attributes:
        split: uint8 images, in memory or in files.
        indices: which of them, and in what order.
    """

    split: ImageSplit | StreamedSplit
    indices: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.indices)

    def batches(self, start: int, stop: int, size: int) -> Iterator[Tensor]:
        """Images ``start`` to ``stop``, ``(n, C, H, W)`` float32 in [0, 1]."""
        for first in range(start, stop, size):
            yield self.split.batch(self.indices[first : min(first + size, stop)])


@dataclass(frozen=True)
class _OfDataset:
    dataset: Dataset[Any]
    order: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, start: int, stop: int, size: int) -> Iterator[Tensor]:
        batches = iter(DataLoader(Subset(self.dataset, self.order[start:stop]), batch_size=size))
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                raise ValueError(f"images: expected a data set of tensors of one size: {first_line(error)}") from error
            yield _images_of(batch)


@dataclass(frozen=True)
class _OfLoader:
    loader: DataLoader[Any]

    def __len__(self) -> int:
        return len(self.loader.dataset)  # type: ignore[arg-type]  # as(source) has looked

    def batches(self, start: int, stop: int, size: int) -> Iterator[Tensor]:
        place = 0
        for batch in self.loader:
            images = _images_of(batch)
            wanted = images[max(0, start - place) : max(0, stop - place)]
            place += len(images)
            if len(wanted):
                yield from wanted.split(size)
            if place >= stop:
                return
        raise ValueError(f"images: the loader ended after {place} of the {len(self)} images of its data set")


def _images_of(batch: object) -> Tensor:
    images = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(images, Tensor):
        raise ValueError(f"images: expected batches of tensors or of (tensor, ...), got {type(images).__name__}")
    return images


def parts(n_images: int, batch_size: int, size: int) -> list[tuple[int, int]]:
    """Where the images of each process start and stop: whole batches, the same as those of one process."""
    n_batches = -(-n_images // batch_size)
    cuts = [min(n_images, batch_size * (n_batches * rank // size)) for rank in range(size + 1)]
    return list(pairwise(cuts))


def image_source(
    images: Tensor | Dataset[Any] | DataLoader[Any] | SplitImages, order: Tensor | None = None
) -> ImageSource:
    """Images as they can be read.

    Args:
        images: ``(N, C, H, W)`` float in [0, 1]; a Dataset or DataLoader of images or (image, ...) tuples that comes in
            the same order every time; or part of a data set.
        order: ``(N,)`` positions, the order to read them in; the given order if not given.

    Raises:
        ValueError: fewer than two images, another shape or dtype, or a loader that shuffles or is to be reordered.
    """
    if isinstance(images, Tensor):
        check_form(images)
        source: ImageSource = _OfTensor(images, order)
    elif isinstance(images, SplitImages):
        source = images if order is None else SplitImages(images.split, images.indices[order])
    elif isinstance(images, DataLoader):
        if not hasattr(images.dataset, "__len__"):
            raise ValueError("images: expected a loader of a data set with a length; it is read more than once")
        _check_order(images)
        if order is not None:
            raise ValueError("labels: expected images as a tensor or a Dataset, which can be read class by class")
        source = _OfLoader(images)
    else:
        if not hasattr(images, "__len__"):
            raise ValueError("images: expected a data set with a length; it is read more than once")
        source = _OfDataset(images, range(len(images)) if order is None else order.tolist())
    if len(source) < 2:
        raise ValueError(f"images: expected at least 2 to compare, got {len(source)}")
    return source


def _check_order(loader: DataLoader[Any]) -> None:
    if isinstance(loader.sampler, RandomSampler):
        raise ValueError("images: the loader shuffles; expected the same order every time (shuffle=False)")
    if loader.drop_last or getattr(loader.batch_sampler, "drop_last", False):
        raise ValueError("images: the loader leaves out the last images; expected drop_last=False")
    by_index = not isinstance(loader.dataset, IterableDataset)
    if by_index and not (isinstance(loader.sampler, SequentialSampler) and type(loader.batch_sampler) is BatchSampler):
        raise ValueError("images: the loader has a sampler of its own; expected each image once: give it a Subset")


def placed(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on a device, channels innermost, the layout in which convolutions are fastest."""
    return batch.to(device).contiguous(memory_format=torch.channels_last)
