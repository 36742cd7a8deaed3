"""The tables of the runs and of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dainv.analysis.report import html
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.analysis.statistics import RESAMPLES
from dainv.augment import Augmentation, augmentation
from dainv.formatting import capital, commit_name, interval, number, percent, short_layer

_EQUATION = (
    '<p class="equation" role="math" aria-label="sigma equals one minus the distance between x i and G of x i, '
    'divided by the mean over j of the distance between x i and x j"><i>σ<sub>i</sub></i> = 1 − '
    '<span class="fraction"><span><i>d</i>(<i>x<sub>i</sub></i>, <i>G</i>(<i>x<sub>i</sub></i>))</span>'
    "<span><sup>1</sup>⁄<sub><i>N</i></sub> ∑<sub><i>j</i></sub> <i>d</i>(<i>x<sub>i</sub></i>, "
    "<i>x<sub>j</sub></i>)</span></span> &nbsp; (Eq. 2)</p>"
)

_UNITS = {
    "rotation": ("rotation", "°"),
    "shift_rows": ("vertical shift", " of the height"),
    "shift_columns": ("horizontal shift", " of the width"),
    "shear": ("shear", "°"),
    "zoom_rows": ("vertical zoom of the sampled window", ""),
    "zoom_columns": ("horizontal zoom of the sampled window", ""),
    "brightness": ("brightness added", ""),
    "contrast": ("contrast factor", ""),
}
_DRAWN = {
    "extremes": "either end with equal probability",
    "uniform": "uniform between the ends",
    "normal": "normal around the middle, cut at two standard deviations, which are the ends",
}


def runs_section(arms: Sequence[Arm]) -> str:
    """A row a run."""
    runs = [run for arm in arms for run in arm.runs]
    rows = [
        (
            escape(run.label),
            html.Cell(f"{run.config['settings']['alpha']:g}", run.config["settings"]["alpha"]),
            html.Cell(escape(str(run.config["settings"]["seed"])), run.seed),
            html.Cell(f"{run.record['epoch']:,}", run.record["epoch"]),
            html.Cell(percent(run.accuracy), run.accuracy.value),
            html.value(run.record["test"]["loss"]),
            _median_at(run, run.config["layers"][-1]),
            html.code(commit_name(run.environment)[:7]),
        )
        for run in runs
    ]
    header = ("Run", "α", "Seed", "Epochs", "Test accuracy", "Cross-entropy", "σ, last layer", "Commit")
    counts = ", ".join(dict.fromkeys(f"{run.config['data']['n_test']:,}" for run in runs))
    return html.section(
        "Runs",
        html.table(header, rows, "Runs"),
        html.note(
            "α is the share of the invariance losses in the training loss (Eq. 4). Accuracy (share of correct answers, "
            "Wilson interval) and cross-entropy (nats, mean) are those of the last epoch before the weights scored, on "
            f"the {counts} test images as they are. σ: the median invariance score. Commit: of the code that trained."
        ),
    )


def _median_at(run: AnalyzedRun, layer: str) -> html.Cell:
    if layer not in run.summaries:
        return html.Cell("no score")
    return html.value(run.summaries[layer].median.value)


def scores_section(arms: Sequence[Arm]) -> str:
    """Eq. 2, and the scores of every layer: of arms with several runs first, then of each run."""
    source = arms[0].runs[0].source
    definition = (
        "<p>At each layer, <i>d</i> is the mean squared difference of the <i>D</i> activations of two images, "
        f"<i>G</i> a random transformation, and <i>N</i> = {source.images:,} the number of images, "
        "<i>x<sub>i</sub></i> itself among them. <i>G</i>, drawn anew for every image and repeat: "
        f"{escape(_in_words(augmentation(source.transform)))}.</p>"
    )
    note = html.note(
        f"Of each run: {source.images:,} images × {source.repeats} transformations = "
        f"{source.images * source.repeats:,} scores a layer. In brackets after a median: 95 % percentile interval of "
        f"{RESAMPLES:,} bootstrap resamples of the images, each with all its transformations. Minus pixels: median "
        "minus the median of the input, paired over images. Quartiles: first and third. Whiskers: lowest and highest "
        "score within 1.5 interquartile ranges of the box. These intervals speak of other images, not of other "
        "trainings: each run is one training."
    )
    parts = [_EQUATION, definition]
    several = any(arm.n > 1 for arm in arms)
    for arm in arms:
        if arm.n > 1:
            parts.append(f"<h3>{escape(capital(arm.label))}, {arm.n} runs</h3>{_arm_table(arm)}")
        for run in arm.runs:
            table = _run_table(run)
            parts.append(
                html.folded(capital(run.label), table, opened=False)
                if several
                else f"<h3>{escape(capital(run.label))}</h3>{table}"
            )
    return html.section("Invariance scores", *parts, note)


def _run_table(run: AnalyzedRun) -> str:
    rows: list[Sequence[html.Cell | str]] = []
    for place, layer in enumerate(run.layers):
        name = html.Cell(escape(short_layer(layer)), place)
        dimension = html.Cell(f"{run.scores.dimensions[layer]:,}", run.scores.dimensions[layer])
        summary = run.summaries.get(layer)
        if summary is None:
            rows.append((name, dimension, "no score", *["–"] * 4))
            continue
        above = run.above_pixels.get(layer)
        rows.append(
            (
                name,
                dimension,
                html.estimate(summary.median),
                "" if above is None else html.estimate(above, sign=True),
                _ends(summary.box.q1, summary.box.q3),
                _ends(summary.box.whisker_low, summary.box.whisker_high),
                html.value(summary.mean),
            )
        )
    header = ("Layer", "<i>D</i>", "Median σ", "Minus pixels", "Quartiles", "Whiskers", "Mean")
    return html.table(header, rows, f"Scores of {run.label}")


def _ends(low: float, high: float) -> html.Cell:
    return html.Cell(f"{number(low, 3)}, {number(high, 3)}", low)


def _arm_table(arm: Arm) -> str:
    rows: list[Sequence[html.Cell | str]] = []
    for place, layer in enumerate(arm.layers):
        name = html.Cell(escape(short_layer(layer)), place)
        if layer not in arm.medians:
            rows.append((name, "no score", *["–"] * 4))
            continue
        mean, box = arm.medians[layer], arm.boxes[layer]
        rows.append(
            (
                name,
                html.value(mean.value),
                html.Cell(interval(mean, 3), mean.low),
                html.value(mean.least),
                html.value(mean.most),
                _ends(box.q1, box.q3),
            )
        )
    header = ("Layer", "Mean of medians", "t interval", "Lowest run", "Highest run", "Quartiles")
    return html.table(header, rows, f"Scores of {arm.label} over runs") + html.note(
        f"Median σ of each of the {arm.n} runs: their mean, its t interval with {arm.n - 1} "
        f"degree{'s' if arm.n > 2 else ''} of freedom, and both ends. The interval speaks of trainings with other "
        "seeds and takes medians to be normally distributed over them. Quartiles: means over the runs too."
    )


def _in_words(scheme: Augmentation) -> str:
    """An augmentation scheme in words."""
    joiner = " or " if scheme.draw == "extremes" else " to "
    parts = []
    for name, (low, high) in scheme.ranges.items():
        if name == "flip":
            parts.append("mirrored left to right with probability one half")
            continue
        what, unit = _UNITS[name]
        parts.append(f"{what} {_short(low)}{joiner}{_short(high)}{unit}")
    if not parts:
        return "none, the image as it is"
    return f"{', '.join(parts)} ({_DRAWN[scheme.draw]}; {scheme.interpolation} interpolation, edges replicated)"


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
