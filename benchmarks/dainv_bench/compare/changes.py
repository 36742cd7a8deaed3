"""How the times of two results differ, and whether rounds vary less than that."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from dainv_bench.compare.series import Key, Series
from dainv_bench.statistics import MINIMUM_ROUNDS, Interval, ratio_interval

_LEAST_CHANGE = 0.01  # what is smaller is not worth a word, however certain


class Change(NamedTuple):
    """One method on one case in both results: median milliseconds, and B / A with its interval."""

    a: float
    b: float
    ratio: Interval

    @property
    def verdict(self) -> str:
        """``"slower"``, ``"faster"``, or nothing where noise or next to nothing explains it."""
        if abs(self.ratio["median"] - 1) <= _LEAST_CHANGE:
            return ""
        return "slower" if self.ratio["low"] > 1 else "faster" if self.ratio["high"] < 1 else ""

    def slower_by(self, percent: float) -> bool:
        """Whether all of the interval lies above that."""
        return self.verdict == "slower" and self.ratio["low"] > 1 + percent / 100


def changes_between(
    a: Mapping[Key, Series], b: Mapping[Key, Series]
) -> tuple[dict[Key, Change], dict[Key, tuple[str, str]]]:
    """What was timed in both; and of what was timed in one alone, what became of it in A and in B."""
    found: dict[Key, Change] = {}
    alone: dict[Key, tuple[str, str]] = {}
    for key in dict.fromkeys((*a, *b)):
        one, other = (series.get(key, Series([], "not in the file")) for series in (a, b))
        if min(len(one.milliseconds), len(other.milliseconds)) >= MINIMUM_ROUNDS:
            ratio = ratio_interval(other.milliseconds, one.milliseconds)
            found[key] = Change(median(one.milliseconds), median(other.milliseconds), ratio)
        elif one.milliseconds or other.milliseconds:
            alone[key] = (_became(one), _became(other))
    return found, alone


def _became(series: Series) -> str:
    count = len(series.milliseconds)
    if count >= MINIMUM_ROUNDS:
        return "timed"
    return f"only {count} rounds" if count else series.reason or "no time"
