"""Views of source images in one kernel on a GPU: draws, affine warp, flip, brightness and contrast.

As operations of torch these are 128 launches of about two microseconds each, even where they are recorded: more than
the objective costs. Here a program makes one channel of one view from the uint8 pixels.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dainv.augment import IDENTITY, PARAMETERS, Augmentation

_PIXELS = 1024  # of a step of a program: eight in each of its threads
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}  # the latter named, as its default depends on Triton's version
_DRAWS = {"normal": 0, "uniform": 1, "extremes": 2}


@triton.jit
def _normal(u):
    """Inverse of the normal distribution's function between -2 and 2 standard deviations.

    By the central polynomial of Giles (2012), "Approximating the erfinv function", which holds up to 0.9966.
    """
    x = (2 * u - 1) * 0.9544997361036416  # erf(sqrt(2))
    w = -tl.log((1 - x) * (1 + x)) - 2.5
    p = 2.81022636e-08 * w + 3.43273939e-07
    p = p * w - 3.5233877e-06
    p = p * w - 4.39150654e-06
    p = p * w + 0.00021858087
    p = p * w - 0.00125372503
    p = p * w - 0.00417768164
    p = p * w + 0.246640727
    p = p * w + 1.50140941
    return p * x * 1.4142135623730951


@triton.jit
def _drawn(uniform_ptr, at: tl.constexpr, OFFSETS: tl.constexpr, SCALES: tl.constexpr, DRAW: tl.constexpr):
    """The parameter of that number, see :data:`dainv.augment.PARAMETERS`."""
    u = tl.load(uniform_ptr + at)
    if DRAW == 0:
        u = _normal(u)
    if DRAW == 2:
        u = tl.where(u < 0.5, 0.0, 1.0)
    return OFFSETS[at] + SCALES[at] * u


@triton.jit
def _sampled(
    image_ptr, row, column, inside, height, width, uniform_ptr, OFFSETS: tl.constexpr, SCALES: tl.constexpr,
    DRAW: tl.constexpr, WARP: tl.constexpr, BRIGHTNESS: tl.constexpr, BILINEAR: tl.constexpr, OFF: tl.constexpr,
):  # fmt: skip
    """Pixels of a view before its contrast is changed; see :func:`dainv.augment._warp` for the map."""
    if WARP:
        angle = _drawn(uniform_ptr, 0, OFFSETS, SCALES, DRAW) * 0.017453292519943295
        shift_rows = _drawn(uniform_ptr, 1, OFFSETS, SCALES, DRAW) * height
        shift_columns = _drawn(uniform_ptr, 2, OFFSETS, SCALES, DRAW) * width
        slant = angle + _drawn(uniform_ptr, 3, OFFSETS, SCALES, DRAW) * 0.017453292519943295
        zoom_rows = _drawn(uniform_ptr, 4, OFFSETS, SCALES, DRAW)
        zoom_columns = _drawn(uniform_ptr, 5, OFFSETS, SCALES, DRAW)
        centre_row = (height - 1) * 0.5 + OFF
        centre_column = (width - 1) * 0.5 + OFF
        mirrored = _drawn(uniform_ptr, 6, OFFSETS, SCALES, 2) > 0.5
        y = row - centre_row
        x = tl.where(mirrored, width - 1 - column, column) - centre_column
        sine, cosine = tl.sin(angle), tl.cos(angle)
        source_row = zoom_rows * cosine * y - zoom_columns * tl.sin(slant) * x
        source_row += shift_rows * cosine - shift_columns * sine + centre_row
        source_column = zoom_rows * sine * y + zoom_columns * tl.cos(slant) * x
        source_column += shift_rows * sine + shift_columns * cosine + centre_column
        source_row = tl.minimum(tl.maximum(source_row, 0.0), height - 1.0)  # edges are replicated
        source_column = tl.minimum(tl.maximum(source_column, 0.0), width - 1.0)
        if BILINEAR:
            top, left = tl.floor(source_row), tl.floor(source_column)
            down, right = source_row - top, source_column - left
            upper = image_ptr + top.to(tl.int32) * width
            lower = image_ptr + tl.minimum(top.to(tl.int32) + 1, height - 1) * width
            west = left.to(tl.int32)
            east = tl.minimum(west + 1, width - 1)
            value = (1 - down) * (1 - right) * tl.load(upper + west, mask=inside, other=0).to(tl.float32)
            value += (1 - down) * right * tl.load(upper + east, mask=inside, other=0).to(tl.float32)
            value += down * (1 - right) * tl.load(lower + west, mask=inside, other=0).to(tl.float32)
            value += down * right * tl.load(lower + east, mask=inside, other=0).to(tl.float32)
        else:
            nearest = tl.floor(source_row + 0.5).to(tl.int32) * width + tl.floor(source_column + 0.5).to(tl.int32)
            value = tl.load(image_ptr + nearest, mask=inside, other=0).to(tl.float32)
    else:
        value = tl.load(image_ptr + row * width + column, mask=inside, other=0).to(tl.float32)
    value = value / 255.0
    if BRIGHTNESS:
        value = tl.minimum(tl.maximum(value + _drawn(uniform_ptr, 7, OFFSETS, SCALES, DRAW), 0.0), 1.0)
    return value


@triton.jit
def views_kernel(
    images_ptr,  # [k, C, H, W] uint8
    uniform_ptr,  # [k M, 9] from 0 to 1
    views_ptr,  # [k M, H, W, C] float32 out
    views,  # M
    height,
    width,
    OFFSETS: tl.constexpr,  # [9], what is added to a draw times its scale
    SCALES: tl.constexpr,  # [9]
    DRAW: tl.constexpr,
    WARP: tl.constexpr,
    BRIGHTNESS: tl.constexpr,
    CONTRAST: tl.constexpr,
    BILINEAR: tl.constexpr,
    OFF: tl.constexpr,  # of the centre of rotation, in pixels
    PIXELS: tl.constexpr,
):
    """One channel of one view: once over its pixels for their mean, if it is needed, and once to write them."""
    view, channel, channels = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    pixels = height * width
    image_ptr = images_ptr + (view // views * channels + channel) * pixels
    view_ptr = views_ptr + view * pixels * channels + channel
    uniform_ptr += view * 9
    mean = 0.0
    contrast = 1.0
    if CONTRAST:
        total = tl.zeros([PIXELS], dtype=tl.float32)
        start = 0
        while start < pixels:
            at = start + tl.arange(0, PIXELS)
            inside = at < pixels
            value = _sampled(
                image_ptr, at // width, at % width, inside, height, width, uniform_ptr, OFFSETS, SCALES, DRAW, WARP,
                BRIGHTNESS, BILINEAR, OFF,
            )  # fmt: skip
            total += tl.where(inside, value, 0.0)
            start += PIXELS
        mean = tl.sum(total, axis=0) / pixels
        contrast = _drawn(uniform_ptr, 8, OFFSETS, SCALES, DRAW)
    start = 0
    while start < pixels:
        at = start + tl.arange(0, PIXELS)
        inside = at < pixels
        value = _sampled(
            image_ptr, at // width, at % width, inside, height, width, uniform_ptr, OFFSETS, SCALES, DRAW, WARP,
            BRIGHTNESS, BILINEAR, OFF,
        )  # fmt: skip
        if CONTRAST:
            value = tl.minimum(tl.maximum((value - mean) * contrast + mean, 0.0), 1.0)
        tl.store(view_ptr + at * channels, value, mask=inside)
        start += PIXELS


def _linear(scheme: Augmentation) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Offsets and scales: a parameter is the former plus the latter times what is drawn."""
    offsets, scales = [], []
    for name in PARAMETERS:
        low, high = scheme.ranges.get(name, (IDENTITY[name], IDENTITY[name]))
        centred = scheme.draw == "normal" and name != "flip"
        offsets.append((low + high) / 2 if centred else low)
        scales.append((high - low) / 4 if centred else high - low)
    return tuple(offsets), tuple(scales)


def constants(scheme: Augmentation) -> dict[str, object]:
    """What the kernel is compiled for."""
    offsets, scales = _linear(scheme)
    return {
        "OFFSETS": offsets,
        "SCALES": scales,
        "DRAW": _DRAWS[scheme.draw],
        "WARP": bool(scheme.ranges.keys() - {"brightness", "contrast"}),
        "BRIGHTNESS": "brightness" in scheme.ranges,
        "CONTRAST": "contrast" in scheme.ranges,
        "BILINEAR": scheme.interpolation == "bilinear",
        "OFF": int(scheme.off_centre),
        "PIXELS": _PIXELS,
    }


def augmented_views(images: Tensor, uniform: Tensor, views: int, scheme: Augmentation) -> Tensor:
    """What :meth:`Augmentation.apply` makes of the repeated images, to rounding.

    Args:
        images: ``(k, C, H, W)`` uint8, on a CUDA device; on a CPU in Triton's interpreter.
        uniform: ``(k M, 9)`` float32 from :func:`dainv.augment.draw_uniform`.
        views: M.
        scheme: of augmentation.

    Returns:
        ``(k M, C, H, W)`` float32 in [0, 1], channels_last, the M views of an image one after the other.
    """
    k, channels, height, width = images.shape
    shape = (k * views, channels, height, width)
    made = torch.empty(shape, dtype=torch.float32, device=images.device, memory_format=torch.channels_last)
    with torch.cuda.device_of(images):
        views_kernel[(k * views, channels)](
            images.contiguous(), uniform.contiguous(), made, views, height, width, **constants(scheme), **OPTIONS
        )
    return made
