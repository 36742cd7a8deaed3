"""An augmentation scheme in words."""

from __future__ import annotations

from dainv.augment import Augmentation

_UNITS = {
    "rotation": ("rotation", "°"),
    "shift_rows": ("vertical shift", " of the height"),
    "shift_columns": ("horizontal shift", " of the width"),
    "shear": ("shear", "°"),
    "zoom_rows": ("vertical zoom of the sampled window", ""),
    "zoom_columns": ("horizontal zoom of the sampled window", ""),
    "brightness": ("brightness added", ""),
    "contrast": ("contrast factor", ""),
}
_DRAWN = {
    "extremes": "either end with equal probability",
    "uniform": "uniform between the ends",
    "normal": "normal around the middle, cut at two standard deviations, which are the ends",
}


def transform_text(scheme: Augmentation) -> str:
    """The parameters of a scheme."""
    joiner = " or " if scheme.draw == "extremes" else " to "
    parts = []
    for name, (low, high) in scheme.ranges.items():
        if name == "flip":
            parts.append("mirrored left to right with probability one half")
            continue
        what, unit = _UNITS[name]
        parts.append(f"{what} {_short(low)}{joiner}{_short(high)}{unit}")
    if not parts:
        return "none, the image as it is"
    return f"{', '.join(parts)} ({_DRAWN[scheme.draw]}; {scheme.interpolation} interpolation, edges replicated)"


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
