"""``dainv-bench overhead``."""

from __future__ import annotations

from dainv_bench.command import Suite, above_the_limit, suite_command
from dainv_bench.overhead.settings import OverheadSettings, preset
from dainv_bench.overhead.suite import measure
from dainv_bench.overhead.summary import summarise
from dainv_bench.summary import printer

overhead = suite_command(
    "overhead",
    Suite(
        OverheadSettings,
        measure=lambda settings, tell, _keep: measure(settings, tell),
        show=printer(summarise),
        preset=preset,
        failed=above_the_limit,
    ),
    summary="What the objective adds to a training step.",
    description="""Time a training step of All-CNN-C with and without the objective, side by side.

    Ends with exit code 1 where the objective costs more than the limit. Ctrl-C keeps the rounds that are finished.
    """,
    quick="3 rounds of half of the arms",
)
