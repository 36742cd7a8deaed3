"""What a reader has to know before trusting the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from dainv.analysis.arms import experiment, shown, the
from dainv.analysis.comparison import Comparison
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.formatting import listed, spread
from dainv.scores import CONSTANT
from dainv.scores.results import by_reason

_NO_OTHER_EXPERIMENT = {"alpha", "fused", "backend", "deterministic"}
_TOLD_BELOW = {"model", "normalization"}
_OF_THE_LOSSES = {"alpha_schedule", "spread", "scheme", "invariance_scope", "layers"}  # nothing where alpha is 0


def caveats(arms: Sequence[Arm], comparisons: Sequence[Comparison]) -> list[str]:
    """A line each; none where all is well."""
    runs = [run for arm in arms for run in arm.runs]
    found = [line for run in runs for line in _of_a_run(run)]
    found += [line for arm in arms for line in _of_an_arm(arm)]
    found += [line for comparison in comparisons for line in _of_a_comparison(comparison)]
    for of, caveat in _BETWEEN_RUNS:
        if len({str(of(run)) for run in runs}) > 1:
            found.append(caveat.format(listed(sorted({str(of(run)) for run in runs}))))
    return found


_BETWEEN_RUNS: tuple[tuple[Callable[[AnalyzedRun], Any], str], ...] = (
    (
        lambda run: run.source.data_sha256,
        "the runs were scored on different data; their scores are not subtracted from each other",
    ),
    (
        lambda run: run.config["settings"]["normalization"],
        "the runs normalise the invariance loss in different ways ({}); their losses are on different scales",
    ),
    (
        lambda run: shown("model", run.config["model"]["name"]),
        "the runs are different models ({}); layers are matched by name, which need not make them alike",
    ),
)


def _of_a_run(run: AnalyzedRun) -> list[str]:
    found = []
    missing = {layer: run.scores.unscored.get(layer, CONSTANT) for layer in run.layers if layer not in run.summaries}
    found += [f"{run.name}: {why}, hence without a score: {', '.join(of)}" for why, of in by_reason(missing).items()]
    if run.accuracy.low <= run.guessing:
        found.append(
            f"{run.name}: its test accuracy, {100 * run.accuracy.value:.1f} %, is not above guessing "
            f"({100 * run.guessing:.1f} %)"
        )
    step, of_record, total = run.source.step, run.record["step"], run.config.get("total_steps", 0)
    if step < total:
        found.append(f"{run.name}: scored after update {step:,} of {total:,}, before the end of its training")
    if of_record < step:
        found.append(
            f"{run.name}: its accuracy is that of update {of_record:,} (epoch {run.record['epoch']}), its scores are "
            f"those of update {step:,}"
        )
    gaps = [range(before + 1, after) for before, after in pairwise([-1, *run.dynamics.epochs]) if after > before + 1]
    if gaps:
        found.append(f"{run.name}: its metrics lack epoch {listed([spread(gap) for gap in gaps])}")
    if run.run.checkpoint == "best":
        found.append(
            f"{run.name}: the epoch scored was chosen by its accuracy on the test images, which makes that accuracy "
            "look higher than it is"
        )
    return found


def _of_an_arm(arm: Arm) -> list[str]:
    found = []
    for seed, times in Counter(run.seed for run in arm.runs).items():
        if times > 1:
            found.append(
                f"{arm.label}: {times} runs have seed {seed}; they are not independent, as seeds are taken to be"
            )
    epochs = sorted({run.record["epoch"] for run in arm.runs})
    if len(epochs) > 1:
        found.append(
            f"{arm.label}: its runs were scored after different numbers of epochs ({listed([str(e) for e in epochs])})"
        )
    return found


def _of_a_comparison(comparison: Comparison) -> list[str]:
    """What but alpha may have made a difference."""
    reference, other = comparison.reference, comparison.other
    had, has = (experiment(arm.runs[0].config) for arm in (reference, other))
    untold = _NO_OTHER_EXPERIMENT | _TOLD_BELOW
    if reference.is_baseline or other.is_baseline:
        untold |= _OF_THE_LOSSES
    differing = [
        f"{name} ({shown(name, has.get(name))}, not {shown(name, had.get(name))})"
        for name in {**had, **has}
        if name not in untold and has.get(name) != had.get(name)
    ]
    if not differing:
        return []
    besides = "besides alpha, " if has["alpha"] != had["alpha"] else ""
    return [f"{other.label}: {besides}it differs from {the(reference.label)} in {listed(differing)}"]
