"""The augmentation schemes of Section 2.1 and 2.2: affine maps, brightness and contrast, one draw for every image.

An image goes through: affine warp with replicated edges, horizontal flip, brightness, contrast, the last two clipped
to [0, 1]. Ranges and distributions are those of the released configuration (the paper names the scheme *heavier* and
refers to its companion article); docs/reproduction.md says where the sources disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from dainv.errors import UserError
from dainv.image_checks import check_form

PARAMETERS = (
    "rotation",  # degrees
    "shift_rows",  # fraction of the height
    "shift_columns",  # fraction of the width
    "shear",  # degrees
    "zoom_rows",  # size of the sampled window: above 1 shrinks the content
    "zoom_columns",
    "flip",  # 1: mirrored left to right
    "brightness",  # added
    "contrast",  # factor on the deviation from each channel's mean
)
# What leaves an image as it is.
IDENTITY = {**dict.fromkeys(PARAMETERS, 0.0), "zoom_rows": 1.0, "zoom_columns": 1.0, "contrast": 1.0}
TRANSFORMATIONS = {
    "rotation": ("rotation",),
    "shift": ("shift_rows", "shift_columns"),
    "zoom": ("zoom_rows", "zoom_columns"),
    "shear": ("shear",),
    "flip": ("flip",),
    "brightness": ("brightness",),
    "contrast": ("contrast",),
}  # what a scheme is made of, and the parameters of each
INTERPOLATIONS = ("bilinear", "nearest")
_SIGNED = ("zoom", "brightness", "contrast")  # up and down are two things, left and right are one


@dataclass(frozen=True)
class Augmentation:
    """A scheme, callable on batches of images.

    Attributes:
        name: the scheme's name.
        ranges: parameter -> (lowest, highest); a parameter not named stays at its identity.
        draw: ``"normal"`` (around the middle, truncated at two standard deviations, which are the ends), ``"uniform"``
            or ``"extremes"`` (either end, equally likely). Flips always come with probability one half.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        off_centre: rotate and zoom around one pixel right of and below the centre, as the released code did.
    """

    name: str
    ranges: dict[str, tuple[float, float]] = field(hash=False)  # a dict has none
    draw: str = "normal"
    interpolation: str = "bilinear"
    off_centre: bool = False

    def __post_init__(self) -> None:
        """Reject a way to interpolate that the warp does not have.

        Raises:
            UserError: names those that it has.
        """
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(f"interpolation: expected one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}")

    def alone(self, transformation: str) -> Augmentation:
        """One transformation of the scheme, at the scheme's range and draw; flips always flip.

        Args:
            transformation: one of :data:`TRANSFORMATIONS`.

        Raises:
            UserError: the scheme has no such transformation.
        """
        names = _parameters_of(transformation)
        if missing := [name for name in names if name not in self.ranges]:
            raise UserError(f"the augmentation scheme {self.name!r} does not change {', '.join(missing)}")
        ranges = {name: (1.0, 1.0) if name == "flip" else self.ranges[name] for name in names}
        return replace(self, name=transformation, ranges=ranges)

    def transformations(self) -> list[str]:
        """Which of :data:`TRANSFORMATIONS` the scheme is made of."""
        return [name for name, parts in TRANSFORMATIONS.items() if all(part in self.ranges for part in parts)]

    def parameters(
        self, n: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Draw one set of parameters for each of n images.

        Every parameter takes exactly one uniform number, so a draw for n images is n draws for one.

        Returns:
            ``(n, 9)`` float32 in the order and units of :data:`PARAMETERS`.
        """
        return self.parameters_of(draw_uniform(n, generator, device))

    def parameters_of(self, uniform: Tensor) -> Tensor:
        """The parameters that numbers between 0 and 1 stand for, one for one.

        Args:
            uniform: ``(n, 9)`` from :func:`draw_uniform`.
        """
        drawn = torch.empty_like(uniform)
        for column, name in enumerate(PARAMETERS):
            u = uniform[:, column]
            if name not in self.ranges:
                drawn[:, column] = IDENTITY[name]
                continue
            low, high = self.ranges[name]
            if name == "flip" or self.draw == "extremes":
                drawn[:, column] = torch.where(u < 0.5, low, high)
            elif self.draw == "uniform":
                drawn[:, column] = low + (high - low) * u
            else:
                # inverse of the normal distribution's function between -2 and 2 standard deviations
                z = math.sqrt(2) * torch.erfinv((2 * u - 1) * math.erf(math.sqrt(2)))
                drawn[:, column] = (low + high) / 2 + (high - low) / 4 * z
        return drawn

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Transform each image by its row of parameters.

        Args:
            images: ``(n, C, H, W)`` float in [0, 1].
            parameters: ``(n, 9)`` from :meth:`parameters`.

        Returns:
            New images of the same shape and dtype; in [0, 1] where brightness or contrast changed.
        """
        if images.dtype in (torch.float16, torch.bfloat16):  # too few digits for the positions of pixels
            return self.apply(images.float(), parameters).to(images.dtype)
        parameter = dict(zip(PARAMETERS, parameters.to(images).unbind(1), strict=True))
        if self.ranges.keys() - {"brightness", "contrast"}:
            images = _warp(images, parameter, self.interpolation, self.off_centre)
        if "brightness" in self.ranges:
            images = (images + parameter["brightness"][:, None, None, None]).clamp(0, 1)
        if "contrast" in self.ranges:
            mean = images.mean(dim=(2, 3), keepdim=True)
            images = ((images - mean) * parameter["contrast"][:, None, None, None] + mean).clamp(0, 1)
        return images

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw and apply, one set of parameters an image, on the images' device.

        Args:
            images: ``(n, C, H, W)`` float in [0, 1].
            generator: source of the draws, on the images' device; torch's global one if not given.

        Raises:
            ValueError: images of another rank or dtype.
        """
        check_form(images)
        if not self.ranges:
            return images
        return self.apply(images, self.parameters(len(images), generator, images.device))


def draw_uniform(n: int, generator: torch.Generator | None = None, device: torch.device | str | None = None) -> Tensor:
    """``(n, 9)`` float32 numbers between 0 and 1: what :meth:`Augmentation.parameters_of` makes parameters of."""
    return torch.rand(n, len(PARAMETERS), generator=generator, device=device)


def _warp(images: Tensor, parameter: dict[str, Tensor], interpolation: str, off_centre: bool) -> Tensor:
    """Sample every output pixel p at ``R (H Z (p - c) + t) + c``: rotation R, shear H, zoom Z, shift t, centre c."""
    height, width = images.shape[2:]
    off = 1 if off_centre else 0
    centre_row, centre_column = (height - 1) / 2 + off, (width - 1) / 2 + off
    angle, shear = parameter["rotation"].deg2rad(), parameter["shear"].deg2rad()
    shift_rows, shift_columns = parameter["shift_rows"] * height, parameter["shift_columns"] * width
    zoom_rows, zoom_columns = parameter["zoom_rows"], parameter["zoom_columns"]

    row = torch.arange(height, dtype=images.dtype, device=images.device)[None, :, None] - centre_row
    column = torch.arange(width, dtype=images.dtype, device=images.device)[None, :]
    # The flip comes after the warp: the mirrored pixel of the output is looked up in its stead.
    column = torch.where(parameter["flip"][:, None] > 0.5, width - 1 - column, column)[:, None, :] - centre_column

    def each(values: Tensor) -> Tensor:
        return values[:, None, None]

    source_row = (
        each(zoom_rows * angle.cos()) * row
        - each(zoom_columns * (angle + shear).sin()) * column
        + each(shift_rows * angle.cos() - shift_columns * angle.sin() + centre_row)
    )
    source_column = (
        each(zoom_rows * angle.sin()) * row
        + each(zoom_columns * (angle + shear).cos()) * column
        + each(shift_rows * angle.sin() + shift_columns * angle.cos() + centre_column)
    )
    grid = torch.stack([source_column * (2 / max(1, width - 1)), source_row * (2 / max(1, height - 1))], dim=-1) - 1
    return functional.grid_sample(images, grid, interpolation, padding_mode="border", align_corners=True)


def _ranges(scale: float, contrast: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """The parameters of *heavier*, their ranges multiplied by ``scale``."""
    shear = math.degrees(0.15)
    return {
        "rotation": (-22.5 * scale, 22.5 * scale),
        "shift_rows": (-0.1 * scale, 0.1 * scale),
        "shift_columns": (-0.1 * scale, 0.1 * scale),
        "shear": (-shear * scale, shear * scale),
        "zoom_rows": (1 - 0.15 * scale, 1 + 0.15 * scale),
        "zoom_columns": (1 - 0.15 * scale, 1 + 0.15 * scale),
        "flip": (0.0, 1.0),
        "brightness": (-0.25 * scale, 0.25 * scale),
        "contrast": contrast,
    }


def _parameters_of(transformation: str) -> tuple[str, ...]:
    if transformation not in TRANSFORMATIONS:
        raise UserError(f"no transformation {transformation!r}; there are {', '.join(TRANSFORMATIONS)}")
    return TRANSFORMATIONS[transformation]


def at_strength(transformation: str, strength: float, interpolation: str = "bilinear") -> Augmentation:
    """One transformation of one strength.

    Rotation, shift (along both axes) and shear go either way, equally likely for every image.

    Args:
        transformation: one of :data:`TRANSFORMATIONS`.
        strength: in the units of :data:`PARAMETERS`: an angle in degrees, a fraction of the side, a factor (1 changes
            nothing) or, for brightness, what is added. A flip has no strength; 1 is one.
        interpolation: ``"bilinear"`` or ``"nearest"``.

    Raises:
        UserError: unknown transformation.
    """
    names = _parameters_of(transformation)
    ends = (strength, strength) if transformation in (*_SIGNED, "flip") else (-strength, strength)
    return Augmentation(
        f"{transformation} {strength:g}", dict.fromkeys(names, ends), draw="extremes", interpolation=interpolation
    )


_LIGHT = {"shift_rows": (-0.1, 0.1), "shift_columns": (-0.1, 0.1), "flip": (0.0, 1.0)}
_HALVED = _ranges(0.5, (0.75, 1.25))
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Augmentation("heavier", _ranges(1.0, (0.5, 1.5))),
        Augmentation("light", _LIGHT),
        Augmentation("none", {}),
        Augmentation("half-extremes", _HALVED, draw="extremes"),
        Augmentation(
            "half-extremes-released",
            {**_HALVED, "contrast": (0.25, 1.25)},
            draw="extremes",
            interpolation="nearest",
            off_centre=True,
        ),
    )
}


def augmentation(name: str, interpolation: str | None = None) -> Augmentation:
    """A scheme by name, callable as ``(images, generator=None) -> images``.

    Args:
        name: ``"heavier"`` (training, Section 2.1), ``"light"`` (shifts and flips), ``"none"``, ``"half-extremes"``
            (G of Eq. 2: the ends of *heavier*'s halved ranges), ``"half-extremes-released"`` (the same as the released
            configuration has it: contrast {0.25, 1.25}, nearest-neighbour warping; what the published Figure 1 shows).
        interpolation: ``"bilinear"`` or ``"nearest"`` in place of the scheme's own.

    Raises:
        UserError: unknown name.
    """
    if name not in SCHEMES:
        raise UserError(f"no augmentation scheme {name!r}; there are {', '.join(SCHEMES)}")
    scheme = SCHEMES[name]
    return scheme if interpolation is None else replace(scheme, interpolation=interpolation)
