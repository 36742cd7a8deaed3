"""Data sources: names, files and folders become labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dainv.data.arrays import load_npz
from dainv.data.folders import load_folder
from dainv.data.named import NAMED
from dainv.data.splits import ImageData
from dainv.errors import UserError
from dainv.names import STREAMING


def load_data(
    source: str,
    *,
    root: str | Path = "data",
    image_size: int | None = None,
    download: bool = True,
    stream: str = "auto",
    workers: int | None = None,
    test_only: bool = False,
) -> ImageData:
    """Load a data set.

    Args:
        source: ``cifar10``, ``cifar100`` (downloaded by torchvision on first use), ``digits`` (embedded: handwritten
            digits of scikit-learn, enlarged to 3 x 32 x 32), an ``.npz`` file with x_train, y_train, x_test, y_test, or
            a folder with ``train/`` and ``test/`` or ``val/``, one subfolder a class in each, or as Tiny-ImageNet has
            it, with a ``val/val_annotations.txt``.
        root: where downloads go.
        image_size: side in pixels of the images of a folder: the shorter side is resized to it and the middle of the
            longer one kept. Not needed where all have one size.
        download: whether what is not there may be downloaded; a dry run writes nothing.
        stream: whether the images of a folder are decoded when they are asked for instead of kept in memory:
            ``"always"``, ``"never"``, or ``"auto"``, if their pixels would take more than 4 GiB.
        workers: processes or threads that decode; the number of cores, but not more than 8, if not given.
        test_only: nothing will be trained: a folder without ``train/`` is one of test images, in ``test/``, in ``val/``
            or itself, one subfolder a class.

    Raises:
        UserError: data absent, malformed or not downloadable; the message says which file and what to do. Also what
            is asked of a folder alone, of other data.
        ValueError: stream is none of the three, a negative number of workers, or an image_size below 1.
    """
    if stream not in STREAMING:
        raise ValueError(f"stream: expected one of {', '.join(STREAMING)}, got {stream!r}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers: expected 0 or more, got {workers}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size: expected at least 1, got {image_size}")
    folder = source not in NAMED and Path(source).is_dir()
    for option, asked in (("--image-size", image_size is not None), ("--stream always", stream == "always")):
        if asked and not folder and (source in NAMED or Path(source).exists()):
            raise UserError(f"{option}: the images of {source} are taken as they are; it is for a folder of images")
    if source in NAMED:
        data = NAMED[source](Path(root), download)
    else:
        path = Path(source)
        if folder:
            data = load_folder(path, image_size, stream, workers, test_only)
        elif path.suffix == ".npz" or path.exists():
            data = load_npz(path)
        else:
            raise UserError(
                f"no data {source!r}: expected {', '.join(NAMED)}, an .npz file or a folder with train/ and test/"
            )
    for name, split in (("training", data.train), ("test", data.test)):
        if len(split) == 0 and test_only and name == "training":
            continue
        if len(split) == 0:
            raise UserError(f"{source}: the {name} set is empty")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(data.classes):
            raise UserError(
                f"{source}: {name} labels from {low} to {high}, expected 0 to {len(data.classes) - 1} "
                f"for {len(data.classes)} classes"
            )
    return data


def load_again(
    settings: Mapping[str, Any],
    source: str | None = None,
    root: str | Path | None = None,
    image_size: int | None = None,
    test_only: bool = False,
) -> ImageData:
    """The data that a run was trained on; or other data, read in the same way.

    Args:
        settings: those in the run's ``config.json``.
        source: other data than the run's, as for :func:`load_data`.
        root: another place for downloads.
        image_size: another side of the images of a folder.
        test_only: see :func:`load_data`.

    Raises:
        UserError: as :func:`load_data`.
    """
    source = source or settings["data"]
    of_run = settings if Path(source).is_dir() else {}  # how the run reads its folder says nothing of a file
    return load_data(
        source,
        root=root or settings.get("data_root", "data"),
        image_size=of_run.get("image_size") if image_size is None else image_size,
        stream=of_run.get("stream", "auto"),
        workers=of_run.get("workers"),
        test_only=test_only,
    )
