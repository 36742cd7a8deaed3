"""Data sources: names, files and folders become labelled images in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dainv.errors import UserError


@dataclass(frozen=True)
class ImageSplit:
    """Labelled images.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.images)

    def to(self, device: torch.device | str) -> ImageSplit:
        """The same images on another device."""
        return ImageSplit(self.images.to(device), self.labels.to(device))

    def batch(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` as ``(n, C, H, W)`` float32 in [0, 1]."""
        return self.images[indices].to(torch.float32).div_(255)


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
    train: ImageSplit
    test: ImageSplit
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def fingerprint(self) -> str:
        """SHA-256 over all pixels and labels: the data that a number came from."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(split.images.numpy().tobytes())
            digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()


def load_data(
    source: str, *, root: str | Path = "data", image_size: int | None = None, download: bool = True
) -> ImageData:
    """Load a data set.

    Args:
        source: ``cifar10``, ``cifar100`` (downloaded by torchvision on first use), ``digits`` (embedded: handwritten
            digits of scikit-learn, enlarged to 3 x 32 x 32), an ``.npz`` file with x_train, y_train, x_test, y_test, or
            a folder with ``train/`` and ``test/``, one subfolder a class in each.
        root: where downloads go.
        image_size: side in pixels that images of a folder are resized to; not needed where all have one size.
        download: whether what is not there may be downloaded; a dry run writes nothing.

    Raises:
        UserError: data absent, malformed or not downloadable; the message says which file and what to do.
    """
    if source in _NAMED:
        data = _NAMED[source](Path(root), download)
    else:
        path = Path(source)
        if path.is_dir():
            data = _folder(path, image_size)
        elif path.suffix == ".npz" or path.exists():
            data = _npz(path)
        else:
            raise UserError(
                f"no data {source!r}: expected {', '.join(_NAMED)}, an .npz file or a folder with train/ and test/"
            )
    for name, split in (("training", data.train), ("test", data.test)):
        if len(split) == 0:
            raise UserError(f"{source}: the {name} set is empty")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(data.classes):
            raise UserError(
                f"{source}: {name} labels from {low} to {high}, expected 0 to {len(data.classes) - 1} "
                f"for {len(data.classes)} classes"
            )
    return data


def _nhwc(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


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
        splits = [ImageSplit(_nhwc(part.data), torch.tensor(part.targets)) for part in (train, test)]
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


def _npz(path: Path) -> ImageData:
    needed = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in needed if key not in archive]
            if missing:
                raise UserError(f"{path}: no array {', '.join(missing)}; expected {', '.join(needed)}")
            arrays = {key: archive[key] for key in needed}
            classes = tuple(str(name) for name in archive["classes"]) if "classes" in archive else ()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise UserError(f"{path}: not a readable .npz file ({error})") from None
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged ({error})") from None
    splits = []
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UserError(f"{path}: x_{part} has shape {images.shape}, expected (N, H, W, C) with 1 or 3 channels")
        if images.dtype != np.uint8:
            raise UserError(f"{path}: x_{part} is {images.dtype}, expected uint8 pixels from 0 to 255")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"{path}: y_{part} is {labels.dtype} {labels.shape}, expected {len(images)} integer labels")
        splits.append(ImageSplit(_nhwc(images), torch.from_numpy(labels.astype(np.int64))))
    if splits[0].images.shape[1:] != splits[1].images.shape[1:]:
        raise UserError(f"{path}: training and test images differ in size")
    if not classes:
        classes = tuple(str(label) for label in range(int(splits[0].labels.max()) + 1 if len(splits[0]) else 1))
    return ImageData(path.stem, splits[0], splits[1], classes)


def _folder(path: Path, image_size: int | None) -> ImageData:
    from PIL import Image
    from torchvision import datasets

    splits, classes = [], []
    for part in ("train", "test"):
        try:
            folder = datasets.ImageFolder(str(path / part))
        except FileNotFoundError as error:
            raise UserError(f"{path / part}: {error}; expected one subfolder a class, with images") from None
        images: list[np.ndarray] = []
        for name, _label in folder.samples:
            try:
                with Image.open(name) as file:
                    image = file.convert("RGB")
            except OSError as error:
                raise UserError(f"{name}: not a readable image ({error})") from None
            if image_size is not None:
                image = image.resize((image_size, image_size), Image.Resampling.BICUBIC)
            if images and image.size != (images[0].shape[1], images[0].shape[0]):
                raise UserError(
                    f"{name}: {image.width} x {image.height} pixels, unlike the images before it; "
                    "pass --image-size to bring all to one size"
                )
            images.append(np.asarray(image))
        splits.append(ImageSplit(_nhwc(np.stack(images)), torch.tensor(folder.targets)))
        classes.append(folder.classes)
    if classes[0] != classes[1]:
        raise UserError(f"{path}: train/ and test/ have different classes")
    if splits[0].images.shape[1:] != splits[1].images.shape[1:]:
        raise UserError(f"{path}: training and test images differ in size; pass --image-size")
    return ImageData(path.resolve().name, splits[0], splits[1], tuple(classes[0]))


_NAMED: dict[str, Callable[[Path, bool], ImageData]] = {
    "cifar10": _torchvision("cifar10"),
    "cifar100": _torchvision("cifar100"),
    "digits": _digits,
}


class ViewSampler:
    """Which source images make up each batch: K a step, every image once a pass, each pass in a new order.

    The order follows from the seed and the step alone, so there is no state to save: a resumed run asks for the same
    step and gets the same images. Where K does not divide the number of images, the last few of a pass are left out
    (others each time), so that all batches have K images.

    Args:
        n_images: images in the training set.
        per_step: K.
        seed: of the order.

    Raises:
        UserError: fewer images than a batch needs.
    """

    def __init__(self, n_images: int, per_step: int, seed: int) -> None:
        if n_images < per_step:
            raise UserError(f"a batch of {per_step} source images cannot be drawn from {n_images} training images")
        self.n_images, self.per_step, self.seed = n_images, per_step, seed
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """``(K,)`` int64 indices of the source images of a step, counted from 0."""
        data_pass, place = divmod(step, self.n_images // self.per_step)
        if data_pass != self._pass:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + data_pass)
            self._pass, self._order = data_pass, torch.randperm(self.n_images, generator=generator)
        return self._order[place * self.per_step : (place + 1) * self.per_step]
