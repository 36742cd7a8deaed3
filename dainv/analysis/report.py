"""The report: one page of HTML that needs nothing but itself."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape
from typing import Any

from dainv.analysis.findings import interval, number, percent, signed
from dainv.analysis.results import AnalyzedRun, Comparison, kind, short_layer
from dainv.analysis.statistics import RESAMPLES, Estimate
from dainv.analysis.stylesheet import STYLESHEET
from dainv.augment import Augmentation, augmentation
from dainv.settings import TrainSettings

_NOT_THE_METHOD = {"data", "data_root", "device", "seed"}  # told in words of their own, and without paths
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
_LOSS_DEFINITIONS = {
    "pairs": "the mean distance between two views of the same image, divided by the mean distance between any two "
    "samples of the batch, self-pairs left out: 0 for perfect invariance, about 1 where views of an image are no "
    "closer to each other than to anything else",
    "printed": "Eq. 3 to the letter, self-pairs counted: 0 for perfect invariance; the scale grows with the number of "
    "source images in a batch",
}


def report_html(
    runs: Sequence[AnalyzedRun],
    comparisons: Sequence[Comparison],
    findings: Sequence[str],
    warnings: Sequence[str],
    environment: dict[str, Any],
    scores_figure: tuple[bytes, bytes],
    dynamics_figure: tuple[bytes, bytes],
) -> str:
    """The page.

    Args:
        runs: in the order of the figures.
        comparisons: of the others with the reference.
        findings: sentences.
        warnings: what makes a result doubtful.
        environment: what the analysis was made with.
        scores_figure: Figure 1 as SVG, on light and on dark paper.
        dynamics_figure: Figure 2 likewise.
    """
    title = f"Invariance of {_and([run.name for run in runs])}"
    source = runs[0].source
    data = " and ".join(dict.fromkeys(run.data for run in runs))
    kinds = [f"{run.name}: {kind(run.config)}. " for run in runs]
    lead = (
        f"{''.join(kinds)}{source.images:,} test images of {data}, {source.repeats} transformations of each "
        f"(scheme {source.transform}). Intervals are 95 % intervals."
    )
    body = [
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>',
        "<main>",
        _doubts(warnings),
        f'<ul class="findings">{"".join(f"<li>{_text(sentence)}</li>" for sentence in findings)}</ul>',
        _figure(scores_figure, _scores_alt(runs), _scores_caption(runs)),
        _figure(dynamics_figure, _dynamics_alt(runs), _dynamics_caption(runs)),
        _runs_section(runs),
        _scores_section(runs, comparisons),
        _dynamics_section(runs),
        _provenance_section(runs, environment),
        "</main>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLESHEET}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _text(sentence: str) -> str:
    """A sentence as HTML; a range such as 1–3 is kept on one line."""
    return escape(sentence).replace("–", "\u2060–\u2060")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _doubts(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<div class="doubts"><strong>Before reading on</strong><ul>{items}</ul></div>'


def _figure(drawings: tuple[bytes, bytes], alt: str, caption: str) -> str:
    """A drawing for light and one for dark screens; paper gets the light one."""
    light, dark = (f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode()}" for drawing in drawings)
    return (
        f'<figure><div class="scroll"><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(alt)}"></picture></div><figcaption>{caption}</figcaption></figure>'
    )


def _scores_alt(runs: Sequence[AnalyzedRun]) -> str:
    medians = (
        f"{run.label}: "
        + ", ".join(f"{short_layer(layer)} {number(s.median.value)}" for layer, s in run.summaries.items())
        for run in runs
    )
    return f"Box plots of the invariance score by layer. Medians of {'; '.join(medians)}."


def _scores_caption(runs: Sequence[AnalyzedRun]) -> str:
    source = runs[0].source
    return (
        "<b>Figure 1.</b> Distribution of the invariance score σ (Eq. 2) at the pixels (input) and after the ReLU of "
        f"each layer, over {source.images:,} test images × {source.repeats} transformations. Box: first to third "
        "quartile; line: median; whiskers: the last score within 1.5 interquartile ranges of the box; scores beyond "
        "are not drawn. The boxes of a layer stand in the order of the legend. At 1 a layer does not see the "
        "transformation; at 0 a transformed image is as far from the original as another image is on average."
    )


def _dynamics_alt(runs: Sequence[AnalyzedRun]) -> str:
    parts = []
    for run in runs:
        first, last = run.dynamics.train[0], run.dynamics.train[-1]
        ends = ", ".join(
            f"layer {short_layer(layer)} {number(a)} to {number(b)}"
            for layer, a, b in zip(run.dynamics.layers, first, last, strict=True)
        )
        parts.append(f"{run.label}: {ends}")
    return f"Curves of the invariance loss by layer from the first to the last epoch. {'; '.join(parts)}."


def _dynamics_caption(runs: Sequence[AnalyzedRun]) -> str:
    return (
        "<b>Figure 2.</b> Invariance loss of each layer during training. Solid: mean over the training batches of an "
        "epoch; at epoch 0 the first batch, before any update. Dashed: the control batch, the same test images and "
        "views after every epoch, in evaluation mode. An epoch stands at its square root, which widens the first ones. "
        f"The loss is {_loss_definition(runs)}."
    )


def _loss_definition(runs: Sequence[AnalyzedRun]) -> str:
    kinds = list(dict.fromkeys(run.config["settings"]["normalization"] for run in runs))
    if len(kinds) == 1:
        return escape(_LOSS_DEFINITIONS[kinds[0]])
    each = (f"for {run.label} {_LOSS_DEFINITIONS[run.config['settings']['normalization']]}" for run in runs)
    return escape("; ".join(each))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _with_interval(estimate: Estimate, *, sign: bool = False) -> str:
    value = signed(estimate.value, 3) if sign else number(estimate.value, 3)
    return f"{value} <small>({interval(estimate, 3)})</small>"


def _runs_section(runs: Sequence[AnalyzedRun]) -> str:
    rows = [
        (
            escape(run.label),
            f"{run.config['settings']['alpha']:g}",
            f"{run.record['epoch']:,}",
            f"{run.source.step:,}",
            percent(run.accuracy),
            number(run.record["test"]["loss"], 3),
        )
        for run in runs
    ]
    header = ("Run", "α", "Epochs", "Updates", "Test accuracy", "Cross-entropy")
    counts = ", ".join(dict.fromkeys(f"{run.config['data']['n_test']:,}" for run in runs))
    note = (
        "α is the share of the invariance losses in the training loss (Eq. 4). Updates: those of the weights that were "
        "scored. Accuracy (share of correct answers, Wilson interval) and cross-entropy (nats, mean) are those of the "
        f"last complete epoch, on the {counts} test images as they are."
    )
    return f'<section><h2>Runs</h2>{_table(header, rows)}<p class="note">{note}</p></section>'


def _scores_section(runs: Sequence[AnalyzedRun], comparisons: Sequence[Comparison]) -> str:
    equation = (
        '<p class="equation" role="math" aria-label="sigma equals one minus the distance between x i and G of x i, '
        'divided by the mean over j of the distance between x i and x j"><i>σ<sub>i</sub></i> = 1 − '
        '<span class="fraction"><span><i>d</i>(<i>x<sub>i</sub></i>, <i>G</i>(<i>x<sub>i</sub></i>))</span>'
        "<span><sup>1</sup>⁄<sub><i>N</i></sub> ∑<sub><i>j</i></sub> <i>d</i>(<i>x<sub>i</sub></i>, "
        "<i>x<sub>j</sub></i>)</span></span> &nbsp; (Eq. 2)</p>"
    )
    source = runs[0].source
    definition = (
        "<p>At each layer, <i>d</i> is the mean squared difference of the <i>D</i> activations of two images, "
        f"<i>G</i> a random transformation, and <i>N</i> = {source.images:,} the number of images, "
        "<i>x<sub>i</sub></i> itself among them. <i>G</i>, drawn anew for every image and repeat: "
        f"{escape(_transform_text(augmentation(source.transform)))}.</p>"
    )
    note = (
        f'<p class="note">Each row: n = {source.images:,} images × {source.repeats} transformations = '
        f"{source.images * source.repeats:,} scores. In brackets after a median: 95 % percentile interval of "
        f"{RESAMPLES:,} bootstrap resamples of the images, each with all its transformations. Minus pixels: median "
        "minus the median of the input, paired over images. Quartiles: first and third. Whiskers: lowest and highest "
        "score within 1.5 interquartile ranges of the box. The intervals speak of other images, not of other "
        "trainings: each run is one training.</p>"
    )
    parts = [equation, definition, *(_scores_table(run) for run in runs), note]
    parts += [_differences_table(comparison) for comparison in comparisons]
    return f"<section><h2>Invariance scores</h2>{''.join(parts)}</section>"


def _scores_table(run: AnalyzedRun) -> str:
    rows = []
    for layer in run.layers:
        dimension = f"{run.scores.dimensions[layer]:,}"
        summary = run.summaries.get(layer)
        if summary is None:
            rows.append((escape(short_layer(layer)), dimension, "constant", *["–"] * 4))
            continue
        above = run.above_pixels.get(layer)
        rows.append(
            (
                escape(short_layer(layer)),
                dimension,
                _with_interval(summary.median),
                "" if above is None else _with_interval(above, sign=True),
                f"{number(summary.q1, 3)}, {number(summary.q3, 3)}",
                f"{number(summary.whisker_low, 3)}, {number(summary.whisker_high, 3)}",
                number(summary.mean, 3),
            )
        )
    header = ("Layer", "<i>D</i>", "Median σ", "Minus pixels", "Quartiles", "Whiskers", "Mean")
    return f"<h3>{escape(run.label[:1].upper() + run.label[1:])}</h3>{_table(header, rows)}"


def _differences_table(comparison: Comparison) -> str:
    reference, other = comparison.reference, comparison.other
    rows = [
        (
            escape(short_layer(layer)),
            number(reference.summaries[layer].median.value, 3),
            number(other.summaries[layer].median.value, 3),
            _with_interval(value, sign=True),
        )
        for layer, value in comparison.differences.items()
    ]
    header = ("Layer", escape(reference.label), escape(other.label), "Difference")
    return (
        f"<h3>{escape(f'{other.label} minus {reference.label}'.capitalize())}</h3>{_table(header, rows)}"
        '<p class="note">Median σ of both runs and their difference, with the interval of the difference: the same '
        "images, the same transformations of each, the same resamples.</p>"
    )


def _dynamics_section(runs: Sequence[AnalyzedRun]) -> str:
    tables = []
    for run in runs:
        dynamics = run.dynamics
        weights = run.config.get("weights") or [None] * len(dynamics.layers)
        rows = []
        for column, layer in enumerate(dynamics.layers):
            curve = dynamics.train[:, column]
            low, high = int(curve.argmin()), int(curve.argmax())
            rows.append(
                (
                    escape(short_layer(layer)),
                    "–" if weights[column] is None else f"{weights[column]:.4f}" if weights[column] else "0",
                    number(curve[0], 3),
                    f"{number(curve[low], 3)} <small>({dynamics.epochs[low]})</small>",
                    f"{number(curve[high], 3)} <small>({dynamics.epochs[high]})</small>",
                    number(curve[-1], 3),
                    number(dynamics.control[0, column], 3),
                    number(dynamics.control[-1, column], 3),
                )
            )
        last = dynamics.epochs[-1]
        header = ("Layer", "Weight", "Start", "Lowest", "Highest", f"Epoch {last}", "Control, start", f"Epoch {last}")
        tables.append(f"<h3>{escape(run.label[:1].upper() + run.label[1:])}</h3>{_table(header, rows)}")
    note = (
        '<p class="note">Weight: the factor of the layer in Eq. 4. Start: the first training batch before any update. '
        "Lowest and highest: of the epochs' means over training batches, the epoch in brackets. Control: one batch of "
        "test images, the same images and views every time.</p>"
    )
    definition = f"<p>The loss of a layer (Eq. 3) is {_loss_definition(runs)}.</p>"
    return f"<section><h2>Invariance losses</h2>{definition}{''.join(tables)}{note}</section>"


def _transform_text(scheme: Augmentation) -> str:
    """The parameters of a scheme in words."""
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
    drawn = {
        "extremes": "either end with equal probability",
        "uniform": "uniform between the ends",
        "normal": "normal around the middle, cut at two standard deviations, which are the ends",
    }[scheme.draw]
    return f"{', '.join(parts)} ({drawn}; {scheme.interpolation} interpolation, edges replicated)"


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _list(items: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{text}</dd>' for term, text in items)}</dl>"


def _code(text: object) -> str:
    return f"<code>{escape(str(text))}</code>"


def _commit(environment: dict[str, Any]) -> str:
    commit = environment.get("commit")
    if commit is None:
        return f"dainv {escape(str(environment.get('dainv')))}, commit unknown"
    changes = " with uncommitted changes" if environment.get("uncommitted_changes") else ""
    return f"dainv {escape(str(environment.get('dainv')))}, {_code(commit)}{changes}"


def _libraries(environment: dict[str, Any]) -> str:
    libraries = environment.get("libraries", {})
    named = [f"Python {environment.get('python')}"]
    named += [f"{library} {version}" for library, version in libraries.items() if version is not None]
    return escape(", ".join(named))


def _hardware(environment: dict[str, Any]) -> str:
    devices = environment.get("cuda_devices") or []
    return escape(", ".join([*devices, f"{environment.get('cpu')} ({environment.get('cpu_count')} cores)"]))


def _computed_on(config: dict[str, Any]) -> str:
    return escape(f"{config.get('device', 'unknown')}, invariance losses by backend {config.get('backend', 'unknown')}")


def _changed_settings(config: dict[str, Any]) -> str:
    """Settings of a run that differ from the published run's; those that could hold a path are left out."""
    changed = []
    for field in fields(TrainSettings):
        value = config["settings"].get(field.name, field.default)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        if field.name not in _NOT_THE_METHOD and value != default:
            changed.append(f"{field.name} {escape(str(value))} <small>(default {escape(str(default))})</small>")
    return "; ".join(changed) or "none"


def _choice(run: AnalyzedRun) -> str:
    if run.source.images == run.available:
        return f"all {run.available:,} of the test set"
    return f"{run.source.images:,} of the {run.available:,} of the test set, drawn at random"


def _provenance_section(runs: Sequence[AnalyzedRun], environment: dict[str, Any]) -> str:
    source = runs[0].source
    parts = []
    for run in runs:
        data, settings = run.config["data"], run.config["settings"]
        parts.append(f"<h3>{escape(run.label[:1].upper() + run.label[1:])}</h3>")
        parts.append(
            _list(
                [
                    ("Run directory", _code(run.name)),
                    ("Trained with", _commit(run.environment)),
                    ("Libraries", _libraries(run.environment)),
                    ("Hardware", _hardware(run.environment)),
                    ("Computed on", _computed_on(run.config)),
                    ("Data", f"{escape(str(data['name']))}, sha256 {_code(data['sha256'])}"),
                    ("Images", escape(f"{data.get('n_train', '?')} to train, {data['n_test']} to test")),
                    ("Seed", escape(str(settings["seed"]))),
                    ("Settings changed", _changed_settings(run.config)),
                    ("Weights scored", f"update {run.source.step:,}, sha256 {_code(run.source.model_sha256)}"),
                    ("Scored on", f"{escape(run.data)}, sha256 {_code(run.source.data_sha256)}"),
                ]
            )
        )
    options = {"transform": source.transform, "repeats": source.repeats, "images": source.images, "seed": source.seed}
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = shlex.join(["dainv", "analyze", *(run.name for run in runs), *given])
    analysis = _list(
        [
            ("Made with", _commit(environment)),
            ("Libraries", _libraries(environment)),
            ("Hardware", _hardware(environment)),
            ("Transformation", f"{escape(source.transform)}, {source.repeats} of each image"),
            ("Images", _choice(runs[0])),
            ("Seed", f"{source.seed} (transformations, choice of images, bootstrap)"),
            ("Command", _code(command)),
        ]
    )
    return f"<section><h2>How this was made</h2>{''.join(parts)}<h3>Analysis</h3>{analysis}</section>"
