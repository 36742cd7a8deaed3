"""What is said of a claim: it holds where the whole interval lies on its side of a threshold, else not or not yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dainv.summaries import Estimate

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be said"


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim.

    Attributes:
        claim: a short name.
        statement: what the paper says.
        verdict: holds, does not hold, or cannot be said.
        because: a sentence with the numbers.
        criterion: what was asked of the numbers.
        numbers: them, for other programs.
    """

    claim: str
    statement: str
    verdict: str
    because: str
    criterion: str
    numbers: dict[str, Any]


def side(found: Estimate, threshold: float) -> int:
    """1 where the whole interval lies above the threshold, -1 where it lies below, else 0."""
    return int(found.low > threshold) - int(found.high < threshold)


def verdict_seeds(sides: Sequence[int]) -> str:
    """Of a claim with several parts, each 1 where it holds, -1 where it does not, 0 where it cannot be said."""
    if not sides:
        return OPEN
    return FAILS if -1 in sides else HOLDS if set(sides) == {1} else OPEN
