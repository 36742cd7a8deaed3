"""``dainv-bench scaling``."""

from __future__ import annotations

from dainv_bench.command import Suite, suite_command
from dainv_bench.scaling.settings import ScalingSettings, preset
from dainv_bench.scaling.suite import measure
from dainv_bench.scaling.summary import summarise
from dainv_bench.summary import printer

scaling = suite_command(
    "scaling",
    Suite(ScalingSettings, measure=measure, show=printer(summarise), preset=preset, failed=lambda _result: False),
    summary="How cost grows with B, M, D, L, N and ranks.",
    description="""Time the objective over B, M, D, L and ranks, and the scores over N, and fit how the times grow.

    Ctrl-C keeps the rounds that are finished.
    """,
    quick="few values, 3 rounds",
)
