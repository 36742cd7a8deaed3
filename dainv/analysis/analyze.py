"""From run directories to figures and a report: the path of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from rich.table import Table

from dainv.analysis.arms import arm_labels, group, run_labels
from dainv.analysis.caveats import caveats
from dainv.analysis.comparison import Comparison, compare
from dainv.analysis.dynamics import Dynamics, read_dynamics
from dainv.analysis.inputs import Opened, open_runs
from dainv.analysis.outputs import Outputs, write_outputs
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.analysis.scoring import Scorer, ScoringPlan
from dainv.environment import environment
from dainv.errors import UserError
from dainv.runs import RunDirectory


@dataclass(frozen=True)
class AnalysisResult:
    """What :func:`analyze` found, and where it was written.

    Attributes:
        arms: runs by arm, in the order given.
        comparisons: of the other arms with the reference.
        warnings: what makes a result doubtful, a line each.
        notes: what is good to know, a line each.
        outputs: what was written.
    """

    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    outputs: Outputs

    @property
    def runs(self) -> tuple[AnalyzedRun, ...]:
        """All runs, arm by arm."""
        return tuple(run for arm in self.arms for run in arm.runs)

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.outputs.report

    def table(self) -> Table:
        """Scores and losses for a terminal, a row a layer."""
        from dainv.analysis.terminal import scores_table

        return scores_table(self.arms)


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
    checkpoint: str = "newest",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> AnalysisResult:
    """Score runs (Eq. 2), compare them, draw Figures 1 and 2 and write a report.

    Runs that differ in their seed only form an arm. Scores and tables of a run go to its own ``analysis/`` folder;
    figures, report and summary, which may compare several runs, to that of the first, or where ``out`` says. Scores of
    an earlier analysis are used again where they were made from the same weights, data, transformation, repeats, images
    and seed.

    Args:
        run_dirs: run directories. Of several, those that are none or have nothing to score yet are left out.
        data: what to score on; the data each run was trained on if not given.
        data_root: where downloads go; where those of the run went if not given.
        transform: name of the augmentation scheme that is G of Eq. 2.
        repeats: transformations of each image.
        images: number of test images, drawn by the seed; all if not given.
        batch_size: images at a time.
        device: where to compute; the CPU if not given.
        seed: of the transformations, of the choice of images and of the bootstrap.
        checkpoint: which one of each run, ``"newest"`` or ``"best"``.
        out: folder for figures, report and summary; the first run's ``analysis/`` if not given.
        progress: a display to report to.

    Raises:
        UserError: what a user can mend, in one line.
    """
    made_with = environment()
    plan = ScoringPlan(transform=transform, repeats=repeats, images=images, batch_size=batch_size, seed=seed)
    warnings: list[str] = []
    notes: list[str] = []
    opened = open_runs(run_dirs, checkpoint, out, warnings.append)
    curves = [read_dynamics(one.run, one.config["layers"]) for one in opened]
    arms = _arms(opened, curves, Scorer(plan, data, data_root, device, progress, warnings, notes))
    comparisons = compare(arms)
    warnings += caveats(arms, comparisons)
    outputs = write_outputs(arms, comparisons, warnings, made_with, Path(out) if out is not None else None)
    return AnalysisResult(tuple(arms), tuple(comparisons), tuple(warnings), tuple(notes), outputs)


def _arms(opened: Sequence[Opened], curves: Sequence[Dynamics], scorer: Scorer) -> list[Arm]:
    """The runs, scored one after the other, by arm."""
    configs, names = [one.config for one in opened], [one.run.name for one in opened]
    groups = group(configs)
    arms = arm_labels(groups, names, configs)
    labels = run_labels(groups, arms, names, configs)
    runs = [_analyzed(*one, scorer) for one in zip(opened, labels, curves, strict=True)]
    return [Arm(label, tuple(runs[place] for place in places)) for label, places in zip(arms, groups, strict=True)]


def _analyzed(opened: Opened, label: str, dynamics: Dynamics, scorer: Scorer) -> AnalyzedRun:
    """A run, scored."""
    run, config = opened
    data, scores, source = scorer.score(run, config)
    return AnalyzedRun(
        run=run,
        label=label,
        config=config,
        environment=run.environment,
        record=_record(run, source.step),
        data=data.name,
        available=len(data.test),
        scores=scores,
        source=source,
        dynamics=dynamics,
    )


def _record(run: RunDirectory, step: int) -> dict[str, Any]:
    """Metrics of the last epoch that was complete at a step."""
    try:
        done = [record for record in run.metrics() if record["step"] <= step]
        records = sorted(done, key=lambda record: record["step"])
        if not records:
            raise UserError(f"{run.path}: no metrics up to step {step}, that of its checkpoint")
        records[-1]["test"]["accuracy"], records[-1]["test"]["loss"]
    except KeyError as error:
        raise UserError(f"{run.path}: a record of its metrics lacks {error}; expected those of `dainv train`") from None
    return records[-1]
