"""An .npz file as a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dainv.data.splits import ImageData, ImageSplit
from dainv.errors import UserError


def channels_first(images: np.ndarray) -> Tensor:
    """``(N, H, W, C)`` to ``(N, C, H, W)``."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def load_npz(path: Path) -> ImageData:
    """Images of a file with x_train, y_train, x_test, y_test; see :func:`dainv.data.load_data`."""
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
    except UserError:
        raise
    except Exception as error:  # of zip archives, their compression or the arrays inside: any of dozens
        raise UserError(f"{path}: not a readable .npz file ({error})") from None
    splits = []
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UserError(f"{path}: x_{part} has shape {images.shape}, expected (N, H, W, C) with 1 or 3 channels")
        if images.dtype != np.uint8:
            raise UserError(f"{path}: x_{part} is {images.dtype}, expected uint8 pixels from 0 to 255")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"{path}: y_{part} is {labels.dtype} {labels.shape}, expected {len(images)} integer labels")
        splits.append(ImageSplit(channels_first(images), torch.from_numpy(labels.astype(np.int64))))
    if splits[0].images.shape[1:] != splits[1].images.shape[1:]:
        raise UserError(f"{path}: training and test images differ in size")
    if not classes:
        classes = tuple(str(label) for label in range(int(splits[0].labels.max()) + 1 if len(splits[0]) else 1))
    return ImageData(path.stem, splits[0], splits[1], classes)
