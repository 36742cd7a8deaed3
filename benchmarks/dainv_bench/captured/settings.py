"""What ``dainv-bench captured`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dainv_bench.overhead.arms import ARMS, BASELINE
from dainv_bench.settings import StepSettings, setting

EAGER, CAPTURED, COMPILED = "eager", "captured", "compiled and captured"


@dataclass(frozen=True)
class CapturedSettings(StepSettings):
    """Settings of ``dainv-bench captured``."""

    arms: tuple[str, ...] = setting(tuple(ARMS), "What to compare with the baseline.")
    compiled: tuple[str, ...] = setting((BASELINE, "closed-form", "ours-fused"), "Those to compile as well.")

    QUICK: ClassVar = {"rounds": 3, "width": 0.25, "arms": ("closed-form", "ours-fused"), "compiled": ()}

    def _check(self) -> None:
        super()._check()
        self.known("arms", "arm", ARMS)
        self.known("compiled", "arm", ARMS)

    def forms_of(self, arm: str) -> list[str]:
        """Eager is the baseline's alone: the ``overhead`` suite is about that."""
        return [EAGER] * (arm == BASELINE) + [CAPTURED] + [COMPILED] * (arm in self.compiled)
