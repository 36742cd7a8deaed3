"""What ``dainv-bench training`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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

    QUICK: ClassVar = {
        "width": 0.1,
        "batch_size": 16,
        "precision": ("fp32", "bf16"),
        "compared": 2,
        "rounds": 3,
        "steps_a_turn": 1,
    }

    def _check(self) -> None:
        super()._check()
        self.at_least(compared=1, steps_a_turn=1)
        self.known("precision", "precision", PRECISIONS)
