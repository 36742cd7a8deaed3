"""Labelled images, in memory or in files that are read when they are asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dainv.data.decoding import decode


@dataclass(frozen=True)
class ImageSplit:
    """Labelled images in memory.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the images take."""
        return self.images.nbytes

    def to(self, device: torch.device | str) -> ImageSplit:
        """The same images on another device."""
        return ImageSplit(self.images.to(device), self.labels.to(device))

    def batch(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` as ``(n, C, H, W)`` float32 in [0, 1]."""
        return self.images[indices].to(torch.float32).div_(255)

    def first(self, n: int) -> ImageSplit:
        """The first n images, or all if there are fewer."""
        return ImageSplit(self.images[:n], self.labels[:n])

    def add_to(self, digest: Any) -> None:
        """Add all pixels and labels to a hash of :mod:`hashlib`."""
        digest.update(self.images.cpu().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())


@dataclass(frozen=True)
class StreamedSplit:
    """Labelled images in files, decoded when they are asked for: for folders larger than memory.

    Attributes:
        folder: what the names of the files are relative to.
        files: ``(N,)`` their names as bytes, in one array, which costs little memory and processes can share.
        labels: ``(N,)`` int64.
        image_shape: (C, H, W) of every image.
        image_size: side in pixels that images are resized and cropped to, see :func:`dainv.data.decoding.decode`; None
            if they all have one size.
        workers: processes or threads that decode.
    """

    folder: Path
    files: np.ndarray
    labels: Tensor
    image_shape: tuple[int, int, int]
    image_size: int | None
    workers: int

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.files)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the images take: none."""
        return 0

    def to(self, device: torch.device | str) -> StreamedSplit:
        """The same images, the labels on another device, to which batches go too."""
        return replace(self, labels=self.labels.to(device))

    def path(self, index: int) -> Path:
        """File of an image."""
        return self.folder / self.files[index].decode()

    def decoded(self, indices: Tensor, threads: int = 1) -> Tensor:
        """The images at ``indices`` as ``(n, C, H, W)`` uint8 on the CPU.

        Raises:
            UserError: a file that is not a readable image, or of another size than the others; names it.
        """
        return decode([self.path(i) for i in indices.tolist()], self.image_size, self.image_shape, threads)

    def batch(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` as ``(n, C, H, W)`` float32 in [0, 1], on the device of the labels.

        Raises:
            UserError: as :meth:`decoded`.
        """
        images = self.decoded(indices, self.workers).to(self.labels.device, non_blocking=True)
        return images.to(torch.float32).div_(255)

    def first(self, n: int) -> StreamedSplit:
        """The first n images, or all if there are fewer."""
        return replace(self, files=self.files[:n], labels=self.labels[:n])

    def add_to(self, digest: Any) -> None:
        """Add names, sizes in bytes and labels of all files, and the size in pixels, to a hash of :mod:`hashlib`."""
        digest.update(f"files, {self.image_size}".encode())
        for index, label in enumerate(self.labels.tolist()):
            digest.update(self.files[index] + f"\0{self.path(index).stat().st_size} {label}\n".encode())


Split = ImageSplit | StreamedSplit


@dataclass(frozen=True)
class ImageData:
    """A training and a test set.

    Attributes:
        name: what the user asked for, without folders.
        train: training images.
        test: test images.
        classes: names of the classes, in label order.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.train.image_shape

    @property
    def streamed(self) -> bool:
        """Whether images are read from files when they are asked for."""
        return isinstance(self.train, StreamedSplit)

    def fingerprint(self) -> str:
        """SHA-256 of the data that a number came from.

        Over all pixels and labels of images in memory; over names, sizes in bytes and labels of the files where they
        are streamed, since reading them all would take as long as training on them.
        """
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            split.add_to(digest)
        return digest.hexdigest()
