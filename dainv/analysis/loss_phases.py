"""When a loss fell and when it rose: the phases of a curve, and none where there is only noise."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter

FALL, RISE = "fall", "rise"
LEAST_RECORDS = 6  # the epoch before any update and five more: fewer points show any pattern by chance

_OF_RANGE = 0.1
_OF_LEVEL = 0.05
_OF_NOISE = 6.0
_WHITE_NOISE = 0.564  # mean distance of white noise of unit standard deviation from its running median of three


class Phase(NamedTuple):
    """A stretch of a curve in which it fell or rose.

    Attributes:
        kind: ``"fall"`` or ``"rise"``.
        start: index of the extreme where it begins.
        end: index of the extreme where it ends; two phases that follow each other share it, the turning point.
    """

    kind: str
    start: int
    end: int


def smooth(curve: np.ndarray) -> np.ndarray:
    """Running median of three: a spike of one epoch is gone, what rises or falls steadily is untouched."""
    return np.asarray(median_filter(curve, size=3, mode="nearest"))


def least_move(curve: np.ndarray) -> float:
    """How far a curve has to go to count as a phase.

    The largest of a tenth of its range, a twentieth of its level (the median) and six standard deviations of its noise,
    the noise being what the running median takes away.
    """
    smoothed = smooth(curve)
    noise = float(np.abs(curve - smoothed)[1:-1].mean()) / _WHITE_NOISE
    return max(_OF_RANGE * float(np.ptp(smoothed)), _OF_LEVEL * float(np.median(np.abs(curve))), _OF_NOISE * noise)


def phases(curve: np.ndarray) -> tuple[Phase, ...]:
    """The phases of a curve, in order and of alternating kind; empty where nothing moved far enough.

    An extreme of the smoothed curve is a turning point where the curve goes :func:`least_move` away from it on both
    sides. Its epoch is that, of the three that the running median saw there, at which the curve itself is lowest or
    highest. The ends of the first and last phase are extremes too: what follows the last one is level.

    Args:
        curve: ``(E,)`` losses by epoch. Fewer than six have no phases.
    """
    least = least_move(curve) if len(curve) >= LEAST_RECORDS else 0.0
    places = _extremes(smooth(curve), least) if least > 0 else []
    if not places:
        return ()
    smoothed = smooth(curve)
    rises = bool(smoothed[places[0]] < smoothed[places[1]])
    kinds = [RISE if rises == (number % 2 == 0) else FALL for number in range(len(places))]
    sharp = [_sharpen(curve, place, kind == RISE) for place, kind in zip(places, kinds, strict=True)]
    if any(end <= start for start, end in pairwise(sharp)):  # noise from one epoch to the next
        sharp = places
    return tuple(Phase(kind, start, end) for kind, (start, end) in zip(kinds, pairwise(sharp), strict=False))


def _sharpen(curve: np.ndarray, place: int, low: bool) -> int:
    """Where the curve itself is lowest or highest among the three epochs of the running median at an extreme."""
    first = max(0, place - 1)
    near = curve[first : place + 2]
    return first + int(near.argmin() if low else near.argmax())


def _extremes(curve: np.ndarray, least: float) -> list[int]:
    """Indices of alternating extremes that are at least ``least`` apart in value."""
    found: list[int] = []
    low = high = last = direction = 0
    for place, value in enumerate(curve):
        if direction == 0:
            low = place if value < curve[low] else low
            high = place if value > curve[high] else high
            if curve[high] - curve[low] >= least:
                direction = 1 if high > low else -1
                found, last = [min(low, high)], max(low, high)
        elif direction * (value - curve[last]) > 0:
            last = place
        elif direction * (curve[last] - value) >= least:
            found.append(last)
            direction, last = -direction, place
    return [*found, last] if found else []
