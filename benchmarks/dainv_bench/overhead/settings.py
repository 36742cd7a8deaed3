"""What ``dainv-bench overhead`` can be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dainv.errors import UserError
from dainv_bench.overhead.arms import ARMS, BASELINE
from dainv_bench.settings import StepSettings, setting

# Whole epochs of all arms would take half an hour on two cores, so the peers are left out; from a rehearsal as well.
_FEW: dict[str, Any] = {"rounds": 3, "warmup": 1, "arms": (BASELINE, "published", "ours", "ours-relu")}

SYSTEM, KEPT = "system", "kept"


@dataclass(frozen=True)
class OverheadSettings(StepSettings):
    """Settings of ``dainv-bench overhead``."""

    warmup: int = setting(3, "Steps of each arm before it is timed.")
    arms: tuple[str, ...] = setting(tuple(ARMS), "What to compare with the baseline.")
    limit: float = setting(10.0, "Percent of a step the objective may cost; 10 is the paper's.")
    epoch: bool = setting(False, "Time whole epochs, batches included, instead of steps: fewer arms and rounds.")
    allocator: str = setting(
        SYSTEM, "system: memory as the C library has it; kept: none is given back, as in `dainv train`."
    )
    data: str = setting("digits", "Of the epochs: as for `dainv train`.")

    QUICK: ClassVar = _FEW

    @classmethod
    def preset(cls, quick: bool, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Epochs are always few, and a rehearsal of them is of a narrow network; see :meth:`SuiteSettings.preset`."""
        if given.get("epoch"):
            return {**_FEW, "width": 0.25} if quick else _FEW
        return cls.QUICK if quick else {}

    def _check(self) -> None:
        super()._check()
        self.at_least(warmup=1)
        self.known("arms", "arm", ARMS)
        if self.allocator not in (SYSTEM, KEPT):
            raise UserError(f"--allocator: expected {SYSTEM} or {KEPT}, got {self.allocator!r}")
        if not math.isfinite(self.limit):
            raise UserError(f"--limit: expected a percentage, got {self.limit}")
