"""``dainv-bench scores``."""

from __future__ import annotations

from dainv_bench.command import Suite, above_the_limit, suite_command
from dainv_bench.scores.settings import ScoresSettings, preset
from dainv_bench.scores.suite import measure
from dainv_bench.scores.summary import summarise
from dainv_bench.summary import printer

scores = suite_command(
    "scores",
    Suite(
        ScoresSettings,
        measure=measure,
        show=printer(summarise),
        preset=preset,
        failed=above_the_limit,
    ),
    summary="Invariance scores against the forward passes and the N x N way.",
    description="""Time and weigh the scores of Eq. 2, side by side with the bare forward passes and with all pairs.

    Ends with exit code 1 where streaming costs more than the limit. Ctrl-C keeps the rounds that are finished.
    """,
    quick="few images, 3 rounds",
)
