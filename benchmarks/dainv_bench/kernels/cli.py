"""``dainv-bench kernels``."""

from __future__ import annotations

from dainv_bench.command import Suite, suite_command
from dainv_bench.kernels.results import wrong_methods
from dainv_bench.kernels.settings import KernelSettings, preset
from dainv_bench.kernels.suite import measure
from dainv_bench.kernels.summary import print_kernels

kernels = suite_command(
    "kernels",
    Suite(
        KernelSettings,
        measure=measure,
        show=print_kernels,
        preset=preset,
        failed=lambda result: bool(wrong_methods(result)),
    ),
    summary="The operator alone, forward and backward, against bandwidth and peers.",
    description="""Time forward, backward and both of every backend and every peer, over shapes, dtypes and layouts.

    Errors against float64 come first; who is wrong is not timed and ends the run with exit code 1. Ctrl-C keeps what
    is finished.
    """,
    quick="two small layers, 5 rounds, no compiler",
)
