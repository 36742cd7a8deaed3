"""``dainv-bench training``."""

from __future__ import annotations

from dainv_bench.command import Suite, suite_command
from dainv_bench.summary import printer
from dainv_bench.training.settings import TrainingSettings, preset
from dainv_bench.training.suite import measure
from dainv_bench.training.summary import summarise

training = suite_command(
    "training",
    Suite(TrainingSettings, measure=measure, show=printer(summarise), preset=preset, failed=lambda _result: False),
    summary="The whole step of `dainv train`, eager and recorded, by precision.",
    description="""Compare recorded steps with eager ones, time steps with and without the objective, estimate 350
    epochs.

    Ctrl-C keeps the precisions and rounds that are finished.
    """,
    quick="a narrow network, two precisions, 3 rounds",
)
