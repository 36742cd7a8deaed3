"""Image folders: where their training and test images are, and whether they fit in memory."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dainv.data.decoding import decode, image_shape
from dainv.data.splits import ImageData, ImageSplit, Split, StreamedSplit
from dainv.errors import UserError

STREAM_ABOVE = 4 * 2**30  # bytes of pixels; a folder with more is not kept in memory
_TEST_FOLDERS = ("test", "val", "valid", "validation")
_ANNOTATIONS = "val_annotations.txt"  # Tiny-ImageNet's: file name and class, separated by tabs, a line an image
_MOST_WORKERS = 8

Files = list[tuple[Path, int]]  # with labels


def load_folder(
    path: Path, image_size: int | None, stream: str, workers: int | None, test_only: bool = False
) -> ImageData:
    """Images of a folder with ``train/`` and a test set, one subfolder a class; see :func:`dainv.data.load_data`."""
    train_files: Files = []
    if test_only and not (path / "train").is_dir():
        test_files, classes = _by_class(_test_folder(path) or path)
    else:
        train_files, classes = _by_class(path / "train")
        test_files = _test_files(path, classes)
    shapes = [image_shape(files[0][0], image_size) for files in (train_files, test_files) if files]
    if shapes[0] != shapes[-1]:
        raise UserError(f"{path}: training and test images differ in size; pass --image-size")
    channels, height, width = shapes[0]
    n_bytes = (len(train_files) + len(test_files)) * channels * height * width
    streamed = stream == "always" or (stream == "auto" and n_bytes > STREAM_ABOVE)
    workers = min(_MOST_WORKERS, _cores()) if workers is None else workers
    splits: list[Split] = []
    for files in filter(None, (train_files, test_files)):
        paths, labels = [file for file, _ in files], torch.tensor([label for _, label in files])
        if streamed:
            names = np.array([os.fsencode(file.relative_to(path)) for file in paths])
            splits.append(StreamedSplit(path, names, labels, shapes[0], image_size, workers))
        else:
            splits.append(ImageSplit(decode(paths, image_size, shapes[0], workers), labels))
    train = splits[0] if train_files else splits[-1].first(0)
    return ImageData(path.resolve().name, train, splits[-1], tuple(classes))


def _cores() -> int:
    """Cores that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _by_class(folder: Path) -> tuple[Files, list[str]]:
    """Image files below the subfolders of a folder, sorted, and the names of the subfolders."""
    from torchvision import datasets

    try:
        found = datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = "no such folder" if not folder.is_dir() else str(error).splitlines()[0]
        raise UserError(f"{folder}: {reason}; expected one subfolder a class, with images") from None
    return [(Path(name), label) for name, label in found.samples], found.classes


def _test_files(path: Path, classes: Sequence[str]) -> Files:
    """The test images, wherever a data set keeps those of them that have labels."""
    if (path / "val" / _ANNOTATIONS).is_file():  # Tiny-ImageNet's test/ has no labels
        return _annotated(path / "val", classes)
    folder = _test_folder(path)
    if folder is None:
        raise UserError(f"{path}: no test images; expected a folder test/ or val/ beside train/")
    if not any(entry.is_dir() for entry in folder.iterdir()):
        raise UserError(
            f"{folder}: no subfolders; expected one a class, as in train/, or Tiny-ImageNet's {_ANNOTATIONS}"
        )
    files, found = _by_class(folder)
    if list(found) != list(classes):
        odd = sorted(set(found) ^ set(classes))
        raise UserError(f"{path}: train/ and {folder.name}/ have different classes: only one of them has {odd[0]}")
    return files


def _test_folder(path: Path) -> Path | None:
    return next((path / name for name in _TEST_FOLDERS if (path / name).is_dir()), None)


def _annotated(folder: Path, classes: Sequence[str]) -> Files:
    """Images named with their classes in a file."""
    label_of = {name: label for label, name in enumerate(classes)}
    annotations = folder / _ANNOTATIONS
    files: Files = []
    with annotations.open(encoding="utf-8", errors="replace", newline="") as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t"), start=1):
            if len(row) < 2 or row[1] not in label_of:
                raise UserError(f"{annotations}, line {number}: expected a file and a class of train/, tab-separated")
            files.append((folder / "images" / row[0], label_of[row[1]]))
    if not files:
        raise UserError(f"{annotations}: names no image")
    return files
