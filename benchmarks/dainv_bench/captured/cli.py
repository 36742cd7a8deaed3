"""``dainv-bench captured``."""

from __future__ import annotations

from dainv_bench.captured.results import broken_forms
from dainv_bench.captured.settings import CapturedSettings, preset
from dainv_bench.captured.suite import measure
from dainv_bench.captured.summary import summarise
from dainv_bench.command import Suite, suite_command
from dainv_bench.summary import printer

captured = suite_command(
    "captured",
    Suite(
        CapturedSettings,
        measure=lambda settings, tell, _keep: measure(settings, tell),
        show=printer(summarise),
        preset=preset,
        failed=lambda result: bool(broken_forms(result)),
    ),
    summary="What the objective adds to a compiled or captured step.",
    description="""Time a step of All-CNN-C recorded as a CUDA graph, compiled or not, against the fastest baseline.

    What cannot be compiled or recorded is not timed and ends the run with exit code 1. Ctrl-C keeps the rounds that
    are finished.
    """,
    quick="3 rounds of two arms in a narrow network, nothing compiled",
)
