"""From run directories to figures and a report: the path of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from dainv.analysis.dynamics import read_dynamics
from dainv.analysis.figures import DARK, LIGHT, dynamics_figure, scores_figure
from dainv.analysis.files import dynamics_csv, scores_csv, summary_json
from dainv.analysis.findings import findings
from dainv.analysis.report import report_html
from dainv.analysis.results import AnalysisResult, AnalyzedRun, compare, kind, labels
from dainv.analysis.scoring import ScoringPlan, scores_of
from dainv.data import ImageData, load_data
from dainv.environment import environment
from dainv.errors import UserError
from dainv.runs import (
    DYNAMICS_FIGURE,
    DYNAMICS_TABLE,
    REPORT,
    SCORES_FIGURE,
    SCORES_TABLE,
    SUMMARY,
    RunDirectory,
    write_atomically,
)


def analyze(
    run_dirs: Sequence[str | Path],
    *,
    data: str | None = None,
    data_root: str | Path | None = None,
    transform: str = "half-extremes",
    repeats: int = 5,
    images: int | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> AnalysisResult:
    """Score runs (Eq. 2), draw Figures 1 and 2 and write a report.

    Scores and tables of a run go to its own ``analysis/`` folder; figures, report and summary, which may compare
    several runs, to that of the first. Scores of an earlier analysis are used again where they were made from the same
    weights, data, transformation, repeats, images and seed.

    Args:
        run_dirs: run directories, with the same layers.
        data: what to score on; the data each run was trained on if not given.
        data_root: where downloads go; where those of the run went if not given.
        transform: name of the augmentation scheme that is G of Eq. 2.
        repeats: transformations of each image.
        images: number of test images, drawn by the seed; all if not given.
        batch_size: images at a time.
        device: where to compute; the CPU if not given.
        seed: of the transformations, of the choice of images and of the bootstrap.
        progress: a display to report to.

    Raises:
        UserError: what a user can mend, in one line.
    """
    made_with = environment()
    plan = ScoringPlan(transform, repeats, images, batch_size, device, seed)
    runs = _open(run_dirs)
    configs = [_configuration(run) for run in runs]
    _same_layers(runs, configs)
    curves = [read_dynamics(run, config["layers"]) for run, config in zip(runs, configs, strict=True)]
    names = labels([run.name for run in runs], [kind(config) for config in configs])
    warnings: list[str] = []
    notes: list[str] = []
    loaded: dict[tuple[str, str, int | None], tuple[ImageData, str]] = {}
    analyzed = []
    for run, config, dynamics, label in zip(runs, configs, curves, names, strict=True):
        settings = config["settings"]
        key = (data or settings["data"], str(data_root or settings["data_root"]), settings["image_size"])
        if key not in loaded:
            loaded[key] = _load(run, key, given=data is not None)
        found, sha256 = loaded[key]
        if sha256 != config["data"]["sha256"]:
            warnings.append(
                f"{run.name} was scored on other data ({found.name}, sha256 {sha256[:12]}…) than it was trained and "
                f"tested with ({config['data']['name']}, sha256 {config['data']['sha256'][:12]}…)"
            )
        scores, source = scores_of(
            run, config, found, sha256, plan, progress=progress, warn=warnings.append, note=notes.append
        )
        record = _record(run, source.step)
        analyzed.append(
            AnalyzedRun(
                run=run,
                label=label,
                config=config,
                environment=run.environment,
                record=record,
                data=found.name,
                available=len(found.test),
                scores=scores,
                source=source,
                dynamics=dynamics,
            )
        )
    warnings += _doubts(analyzed)
    report = _write(analyzed, warnings, made_with)
    return AnalysisResult(tuple(analyzed), tuple(compare(analyzed)), tuple(warnings), tuple(notes), report)


def _open(run_dirs: Sequence[str | Path]) -> list[RunDirectory]:
    if not run_dirs:
        raise UserError("no run directory given")
    runs = [RunDirectory.open(path) for path in run_dirs]
    places = [run.path.resolve() for run in runs]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise UserError(f"{run_dirs[number]}: given twice")
    for run in runs:
        run.analysis_path(REPORT)  # where no folder can be made, this says so before the work, not after it
    return runs


def _configuration(run: RunDirectory) -> dict[str, Any]:
    """A run's config.json with all that the analysis needs in it."""
    config = run.config
    needed = {
        "settings": ("alpha", "data", "data_root", "image_size", "normalization", "seed"),
        "model": ("in_channels", "n_classes", "batch_norm", "width"),
        "data": ("name", "sha256", "n_test"),
    }
    for part, keys in needed.items():
        section = config.get(part)
        for key in keys:
            if not isinstance(section, dict) or key not in section:
                raise UserError(f"{run.path}: config.json has no {part}.{key}; was it written by `dainv train`?")
    if not config.get("layers"):
        raise UserError(f"{run.path}: config.json names no layers")
    return config


def _same_layers(runs: Sequence[RunDirectory], configs: Sequence[dict[str, Any]]) -> None:
    first = configs[0]["layers"]
    for run, config in zip(runs, configs, strict=True):
        if config["layers"] != first:
            raise UserError(
                f"{run.path}: its layers ({', '.join(config['layers'])}) are not those of {runs[0].path} "
                f"({', '.join(first)}); analyze them one at a time"
            )


def _load(run: RunDirectory, key: tuple[str, str, int | None], *, given: bool) -> tuple[ImageData, str]:
    source, root, image_size = key
    try:
        data = load_data(source, root=root, image_size=image_size)
    except UserError as error:
        hint = "" if given else f" (the data of {run.path}; --data says where it is now)"
        raise UserError(f"{error}{hint}") from None
    return data, data.fingerprint()


def _record(run: RunDirectory, step: int) -> dict[str, Any]:
    """Metrics of the last epoch that was complete at a step."""
    try:
        records = [record for record in run.metrics() if record["step"] <= step]
        if not records:
            raise UserError(f"{run.path}: no metrics up to step {step}, that of its checkpoint")
        records[-1]["test"]["accuracy"], records[-1]["test"]["loss"]
    except KeyError as error:
        raise UserError(f"{run.path}: a record of its metrics lacks {error}; expected those of `dainv train`") from None
    return records[-1]


def _doubts(runs: Sequence[AnalyzedRun]) -> list[str]:
    """What a reader has to know before trusting the numbers."""
    doubts = []
    for run in runs:
        constant = [layer for layer in run.layers if layer not in run.summaries]
        if constant:
            doubts.append(f"{run.name}: the same for all images, hence without a score: {', '.join(constant)}")
        guessing = 1 / run.config["model"]["n_classes"]
        if run.accuracy.low <= guessing:
            doubts.append(
                f"{run.name}: its test accuracy, {100 * run.accuracy.value:.1f} %, is not above guessing "
                f"({100 * guessing:.1f} %)"
            )
    if len({run.source.data_sha256 for run in runs}) > 1:
        doubts.append("the runs were scored on different data; their scores are not subtracted from each other")
    if len({run.config["settings"]["normalization"] for run in runs}) > 1:
        doubts.append("the runs normalise the invariance loss in different ways; their losses are on different scales")
    return doubts


def _write(runs: Sequence[AnalyzedRun], warnings: Sequence[str], made_with: dict[str, Any]) -> Path:
    """Write everything; nothing is written before all of it has been made."""
    comparisons = compare(runs)
    sentences = findings(runs, comparisons)
    first = runs[0].run
    files: list[tuple[Path, bytes]] = []
    for run in runs:
        files.append((run.run.analysis_path(SCORES_TABLE), scores_csv(run)))
        files.append((run.run.analysis_path(DYNAMICS_TABLE), dynamics_csv(run.dynamics)))
    vector = {}
    for name, draw in ((SCORES_FIGURE, scores_figure), (DYNAMICS_FIGURE, dynamics_figure)):
        vector[name] = (draw(runs, "svg", LIGHT), draw(runs, "svg", DARK))
        files.append((first.analysis_path(f"{name}.svg"), vector[name][0]))
        files.append((first.analysis_path(f"{name}.png"), draw(runs, "png", LIGHT)))
    summary = summary_json(runs, comparisons, sentences, warnings, made_with)
    files.append((first.analysis_path(SUMMARY), summary))
    page = report_html(
        runs, comparisons, sentences, warnings, made_with, vector[SCORES_FIGURE], vector[DYNAMICS_FIGURE]
    )
    report = first.analysis_path(REPORT)
    files.append((report, page.encode()))
    for path, content in files:
        _write_bytes(path, content)
    return report


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))
