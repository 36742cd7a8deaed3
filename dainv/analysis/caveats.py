"""What a reader has to know before trusting the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from dainv.analysis.arms import shown
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.formatting import listed
from dainv.scores import CONSTANT
from dainv.scores.results import by_reason


def caveats(arms: Sequence[Arm]) -> list[str]:
    """A line each; none where all is well."""
    runs = [run for arm in arms for run in arm.runs]
    found = [line for run in runs for line in _of_a_run(run)]
    found += [line for arm in arms for line in _of_an_arm(arm)]
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
