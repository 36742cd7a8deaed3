"""From image files to pixels: one rule for all, whether they are kept in memory or streamed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dainv.errors import UserError

if TYPE_CHECKING:
    from PIL import Image


def read_image(path: Path, image_size: int | None) -> np.ndarray:
    """One image as ``(H, W, 3)`` uint8.

    Args:
        path: the file.
        image_size: the shorter side is resized to it (bicubic) and the middle of the longer one kept, as is usual for
            ImageNet; None leaves the image as it is.

    Raises:
        UserError: not a readable image.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            if file.mode in ("I", "F"):
                raise ValueError(f"pixels of Pillow's mode {file.mode}; expected 8 or 16 bits a channel")
            image = _eight_bits(file).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image in a known format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise UserError(f"{path}: not a readable image ({reason})") from None
    if image_size is not None and image.size != (image_size, image_size):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        image = image.resize(
            (image_size, image_size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
        )
    return np.asarray(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits as one of 8, black and white staying where they are; others as they are."""
    from PIL import Image

    if not image.mode.startswith("I;16"):  # Pillow itself would cut off all above 255
        return image
    return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))


def image_shape(path: Path, image_size: int | None) -> tuple[int, int, int]:
    """(C, H, W) that a file becomes.

    Raises:
        UserError: not a readable image.
    """
    height, width, channels = read_image(path, image_size).shape
    return channels, height, width


def decode(paths: Sequence[Path], image_size: int | None, shape: tuple[int, int, int], threads: int) -> Tensor:
    """Several images as ``(n, 3, H, W)`` uint8.

    Args:
        paths: the files.
        image_size: see :func:`read_image`.
        shape: (3, H, W) that all of them have to have.
        threads: how many decode at a time.

    Raises:
        UserError: a file that is not a readable image, or of another size; the first such is named.
    """
    images = torch.empty((len(paths), *shape), dtype=torch.uint8)

    def place(number: int) -> None:
        pixels = read_image(paths[number], image_size).transpose(2, 0, 1)
        if pixels.shape != shape:
            raise UserError(
                f"{paths[number]}: {pixels.shape[2]} x {pixels.shape[1]} pixels, others have {shape[2]} x {shape[1]}; "
                "pass --image-size to bring all to one size"
            )
        images[number] = torch.from_numpy(np.ascontiguousarray(pixels))

    if threads <= 1:
        for number in range(len(paths)):
            place(number)
        return images
    pool = ThreadPoolExecutor(threads)
    try:
        for _ in pool.map(place, range(len(paths))):  # raises what the first of them raised
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return images
