"""What ``dainv-bench training`` writes."""

from __future__ import annotations

from typing import TypedDict

from dainv_bench.results import Result
from dainv_bench.statistics import Interval

# Forms of a step; without a second word they are recorded where there is a GPU.
BASELINE, OBJECTIVE, EAGER, PLAIN = "baseline", "objective", "objective, eager", "objective, no augmentation"


class PrecisionResult(TypedDict):
    """One precision."""

    recorded: bool  # whether steps ran as a CUDA graph
    not_recorded: str | None  # why not
    loss_error: float | None  # largest, of recorded against eager steps, relative
    update_error: float | None  # of what all those steps together did to the parameters, relative
    milliseconds: dict[str, list[float]]  # of one step, one a round
    median_milliseconds: dict[str, float]
    overhead_percent: Interval  # of the objective, on recorded steps
    augmentation_percent: Interval  # of a recorded step with the objective: what it takes longer than without
    evaluation_milliseconds: float  # of 10,000 test images
    seconds_of_350_epochs: float  # all updates and evaluations of the published run; checkpoints come on top


class TrainingResult(Result):
    """What ``dainv-bench training`` writes; benchmarks/README.md explains what is not named here."""

    precisions: dict[str, PrecisionResult]
