"""What ``dainv-bench training`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dainv.settings import PRECISIONS
from dainv_bench.settings import ROUNDS, StepSettings, setting


@dataclass(frozen=True)
class TrainingSettings(StepSettings):
    """Settings of ``dainv-bench training``."""

    backend: str | None = setting(None, "Of the operator: torch, native, triton.  [default: as train]")
    precision: tuple[str, ...] = setting(PRECISIONS, "Those to measure.")
    compared: int = setting(200, "Steps in which recorded ones have to be the eager ones.")
    steps_a_turn: int = setting(20, "Steps that are timed together.")
    rounds: int = setting(10, ROUNDS)

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        super().__post_init__()
        self.at_least(compared=1, steps_a_turn=1)
        self.known("precision", "precision", PRECISIONS)


def preset(quick: bool, _given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands in place of the defaults."""
    if not quick:
        return {}
    return {
        "width": 0.1,
        "batch_size": 16,
        "precision": ("fp32", "bf16"),
        "compared": 2,
        "rounds": 3,
        "steps_a_turn": 1,
    }
