"""The suites that measure times: what each can be told, what measures it, and how its command is described."""

from __future__ import annotations

from dainv_bench.captured import suite as captured
from dainv_bench.captured.results import broken_forms
from dainv_bench.captured.settings import CapturedSettings
from dainv_bench.captured.summary import summarise as summarise_captured
from dainv_bench.command import Suite, above_the_limit
from dainv_bench.kernels import suite as kernels
from dainv_bench.kernels.results import wrong_methods
from dainv_bench.kernels.settings import KernelSettings
from dainv_bench.kernels.summary import print_kernels
from dainv_bench.overhead import suite as overhead
from dainv_bench.overhead.settings import OverheadSettings
from dainv_bench.overhead.summary import summarise as summarise_overhead
from dainv_bench.scaling import suite as scaling
from dainv_bench.scaling.settings import ScalingSettings
from dainv_bench.scaling.summary import summarise as summarise_scaling
from dainv_bench.scores import suite as scores
from dainv_bench.scores.settings import ScoresSettings
from dainv_bench.scores.summary import summarise as summarise_scores
from dainv_bench.summary import printer
from dainv_bench.training import suite as training
from dainv_bench.training.settings import TrainingSettings
from dainv_bench.training.summary import summarise as summarise_training

SUITES = (
    Suite(
        "overhead",
        OverheadSettings,
        overhead.measure,
        printer(summarise_overhead),
        above_the_limit,
        summary="What the objective adds to a training step.",
        description="""Time a training step of All-CNN-C with and without the objective, side by side.

        Ends with exit code 1 where the objective costs more than the limit. Ctrl-C keeps the rounds that are finished.
        """,
        quick="3 rounds of four arms",
    ),
    Suite(
        "kernels",
        KernelSettings,
        kernels.measure,
        print_kernels,
        wrong_methods,
        summary="The operator alone, forward and backward, against bandwidth and peers.",
        description="""Time forward, backward and both of every backend and every peer, over shapes, dtypes and layouts.

        Errors against float64 come first; who is wrong is not timed and ends the run with exit code 1. Ctrl-C keeps
        what is finished.
        """,
        quick="two small layers, 5 rounds, no compiler",
    ),
    Suite(
        "scores",
        ScoresSettings,
        scores.measure,
        printer(summarise_scores),
        above_the_limit,
        summary="Invariance scores against the forward passes and the N x N way.",
        description="""Time and weigh the scores of Eq. 2, side by side with the bare forward passes and with all pairs.

        Ends with exit code 1 where streaming costs more than the limit. Ctrl-C keeps the rounds that are finished.
        """,
        quick="few images, 3 rounds",
    ),
    Suite(
        "scaling",
        ScalingSettings,
        scaling.measure,
        printer(summarise_scaling),
        summary="How cost grows with B, M, D, L, N and ranks.",
        description="""Time the objective over B, M, D, L and ranks, and the scores over N, and fit how the times grow.

        Ctrl-C keeps the rounds that are finished.
        """,
        quick="few values, 3 rounds",
    ),
    Suite(
        "captured",
        CapturedSettings,
        captured.measure,
        printer(summarise_captured),
        broken_forms,
        summary="What the objective adds to a compiled or captured step.",
        description="""Time a step of All-CNN-C recorded as a CUDA graph, compiled or not, against the fastest baseline.

        What cannot be compiled or recorded is not timed and ends the run with exit code 1. Ctrl-C keeps the rounds
        that are finished.
        """,
        quick="3 rounds of two arms in a narrow network, nothing compiled",
    ),
    Suite(
        "training",
        TrainingSettings,
        training.measure,
        printer(summarise_training),
        summary="The whole step of `dainv train`, eager and recorded, by precision.",
        description="""Compare recorded steps with eager ones, time steps with and without the objective, estimate 350
        epochs.

        Ctrl-C keeps the precisions and rounds that are finished.
        """,
        quick="a narrow network, two precisions, 3 rounds",
    ),
)
