"""What ``dainv-bench captured`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dainv_bench.overhead.arms import ARMS, BASELINE
from dainv_bench.settings import StepSettings, setting

EAGER, CAPTURED, COMPILED = "eager", "captured", "compiled and captured"


@dataclass(frozen=True)
class CapturedSettings(StepSettings):
    """Settings of ``dainv-bench captured``."""

    arms: tuple[str, ...] = setting(tuple(ARMS), "What to compare with the baseline.")
    compiled: tuple[str, ...] = setting((BASELINE, "closed-form", "ours-fused"), "Those to compile as well.")

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        super().__post_init__()
        self.known("arms", "arm", ARMS)
        self.known("compiled", "arm", ARMS)

    def forms_of(self, arm: str) -> list[str]:
        """Eager is the baseline's alone: the ``overhead`` suite is about that."""
        return [EAGER] * (arm == BASELINE) + [CAPTURED] + [COMPILED] * (arm in self.compiled)


def preset(quick: bool, _given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands in place of the defaults."""
    return {"rounds": 3, "width": 0.25, "arms": ("closed-form", "ours-fused"), "compiled": ()} if quick else {}
