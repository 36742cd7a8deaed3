"""Every file of an analysis, made in full before the first is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dainv.analysis.comparison import Comparison
from dainv.analysis.csv_tables import comparison_csv, dynamics_csv, scores_csv
from dainv.analysis.dynamics_figure import dynamics_figure
from dainv.analysis.findings import findings
from dainv.analysis.report import Drawing, report_html
from dainv.analysis.results import Arm
from dainv.analysis.scores_figure import scores_figure
from dainv.analysis.summary import summary_json
from dainv.drawing import DARK, LIGHT, Theme
from dainv.export import write_file
from dainv.runs import (
    DYNAMICS_FIGURE,
    DYNAMICS_TABLE,
    REPORT,
    SCORES_FIGURE,
    SCORES_TABLE,
    SUMMARY,
)


@dataclass(frozen=True)
class Outputs:
    """What an analysis wrote.

    Attributes:
        report: path of the report.
        summary: content of ``summary.json``.
        scores: the table of scores of all runs, CSV.
    """

    report: Path
    summary: bytes
    scores: bytes


def write_outputs(
    arms: Sequence[Arm],
    comparisons: Sequence[Comparison],
    warnings: Sequence[str],
    made_with: dict[str, Any],
    out: Path | None,
) -> Outputs:
    """Write tables to each run's own folder, and to ``out``, or else the first run's, what compares them."""
    runs = [run for arm in arms for run in arm.runs]
    sentences = findings(arms, comparisons)
    home = out if out is not None else runs[0].run.analysis_path(REPORT).parent
    files: dict[Path, bytes] = {}
    for run in runs:
        files[run.run.analysis_path(SCORES_TABLE)] = scores_csv([run])
        files[run.run.analysis_path(DYNAMICS_TABLE)] = dynamics_csv([run])
    figures = (_drawn(scores_figure, arms), _drawn(dynamics_figure, arms))
    for name, draw, drawing in zip(
        (SCORES_FIGURE, DYNAMICS_FIGURE), (scores_figure, dynamics_figure), figures, strict=True
    ):
        files[home / f"{name}.svg"] = drawing.light
        files[home / f"{name}.png"] = draw(arms, "png", LIGHT)
    files[home / SUMMARY] = summary_json(arms, comparisons, sentences, warnings, made_with)
    downloads = {SCORES_TABLE: scores_csv(runs), DYNAMICS_TABLE: dynamics_csv(runs), SUMMARY: files[home / SUMMARY]}
    if comparisons:
        downloads["comparison.csv"] = comparison_csv(comparisons)
    page = report_html(arms, comparisons, sentences, warnings, made_with, figures, downloads)
    files[home / REPORT] = page.encode()
    for path, content in files.items():
        write_file(path, content)
    return Outputs(home / REPORT, files[home / SUMMARY], downloads[SCORES_TABLE])


def _drawn(draw: Callable[[Sequence[Arm], str, Theme], bytes], arms: Sequence[Arm]) -> Drawing:
    return Drawing(draw(arms, "svg", LIGHT), draw(arms, "svg", DARK))
