"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from dainv.data.arrays import channels_first
from dainv.data.splits import ImageData, ImageSplit
from dainv.errors import UserError


def _torchvision(name: str) -> Callable[[Path, bool], ImageData]:
    def load(root: Path, download: bool) -> ImageData:
        from torchvision import datasets

        dataset = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        existed = root.exists()
        try:
            train, test = (dataset(str(root), train=train, download=download) for train in (True, False))
        except Exception as error:  # torchvision lets urllib's, tarfile's and its own errors through
            if not existed and root.exists() and not any(root.iterdir()):
                root.rmdir()
            if not download:
                raise UserError(
                    f"{name}: not in {root}, and a dry run downloads nothing; --data digits is here"
                ) from None
            raise UserError(
                f"{name}: cannot be downloaded to {root} ({error}); fetch it on another machine and put it there, "
                "or pass --data FILE.npz"
            ) from None
        splits = [ImageSplit(channels_first(part.data), torch.tensor(part.targets)) for part in (train, test)]
        return ImageData(name, splits[0], splits[1], tuple(train.classes))

    return load


def _digits(_root: Path, _download: bool) -> ImageData:
    """1,797 digits of 8 x 8 pixels: the first four fifths of each class to train, the rest to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).to(torch.float32)[:, None] / 16
    large = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    images = large.mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    train = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        members = (labels == label).nonzero()[:, 0]
        train[members[: len(members) * 4 // 5]] = True
    splits = [ImageSplit(images[part], labels[part]) for part in (train, ~train)]
    return ImageData("digits", splits[0], splits[1], tuple("0123456789"))


# Each is given where downloads go, and whether there may be one.
NAMED: dict[str, Callable[[Path, bool], ImageData]] = {
    "cifar10": _torchvision("cifar10"),
    "cifar100": _torchvision("cifar100"),
    "digits": _digits,
}
