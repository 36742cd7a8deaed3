"""From a plan to a page: train, analyze, judge, draw, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from dainv.analysis import analyze
from dainv.analysis.arms import changed_settings
from dainv.analysis.dynamics import read_dynamics
from dainv.analysis.scoring import ScoringPlan
from dainv.data import ImageData, load_data
from dainv.devices import resolve_device
from dainv.environment import environment
from dainv.errors import UserError
from dainv.export import json_of, write_file
from dainv.formatting import commit_name
from dainv.reproduction.claims import verdicts
from dainv.reproduction.distances import in_pairs, variant_distances
from dainv.reproduction.evidence import Evidence, evidence
from dainv.reproduction.figures import dynamics_figure, scores_figure
from dainv.reproduction.overhead import Overhead
from dainv.reproduction.planned_runs import PlannedRun, PlannedRuns
from dainv.reproduction.published import ARMS, BASELINE, INVARIANCE
from dainv.reproduction.report import report
from dainv.reproduction.summary import accuracy_csv, summary, summary_json
from dainv.reproduction.training import Reporting, adopt, make_runs
from dainv.reproduction.verdict import Verdict
from dainv.runs import RunDirectory
from dainv.settings import RESUMABLE, TrainSettings

RESULTS = "reproduction"  # the folder with page, figures and tables; small enough to be published as it is
RUNS = "runs"  # in it: of each run what is text, without checkpoints and scores
PAGE = "report.md"
# decided by the plan, or without effect on what is computed
NOT_THE_RECIPE = {"seed", "epochs", "fused", "backend", "deterministic", *RESUMABLE}


@dataclass(frozen=True)
class Reproduction:
    """What came out.

    Attributes:
        verdicts: a claim each.
        summary: everything, as in summary.json.
        page: path of report.md.
        warnings: of the analysis.
    """

    verdicts: tuple[Verdict, ...]
    summary: dict[str, Any]
    page: Path
    warnings: tuple[str, ...]


def reproduce(
    folder: str | Path,
    plan: PlannedRuns,
    reporting: Reporting,
    *,
    scoring: ScoringPlan,
    overheads: Sequence[Overhead] = (),
    adopted: Sequence[str] = (),
    progress: Callable[[], AbstractContextManager[Progress]],
    say: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """Make the runs of a plan and everything that follows from them. Called again, it goes on where it was.

    Args:
        folder: where everything goes.
        plan: the runs.
        reporting: makes a reporter for each run.
        scoring: how σ is measured.
        overheads: measured by ``dainv-bench overhead``.
        adopted: run directories made elsewhere, which are copied to their places.
        progress: makes a progress display for the analysis, as a context.
        say: told what is going on.

    Raises:
        UserError: what a user can mend.
        Interrupted: by a signal; the state is saved.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    for source in adopted:
        say(adopt(place, plan.main, source))
    settings = plan.main[0].settings
    data = load_data(settings.data, root=settings.data_root, image_size=settings.image_size)
    main = make_runs(place, plan.main, data, reporting, say)
    varied = make_runs(place, plan.variants, data, reporting, say)
    say("scores and figures")
    results = place / RESULTS
    arms, warnings = _analyzed(main, plan.main, scoring, results / "analysis", progress)
    judged = verdicts(arms[BASELINE], arms[INVARIANCE], overheads)
    distances = variant_distances(_curves(varied, plan.variants)) if varied else []
    about = {"warnings": list(warnings), **_provenance(main, plan.main[-1].settings, data, scoring)}
    found = summary(arms, judged, distances, about)
    files = {
        "summary.json": summary_json(found),
        "accuracy.csv": accuracy_csv(arms),
        **{f"figure1.{form}": scores_figure(arms, form) for form in ("svg", "png")},
        **{f"figure2.{form}": dynamics_figure(arms, form) for form in ("svg", "png")},
    }
    for name, content in files.items():
        write_file(results / name, content)
    for run in main:
        _keep_record(run, results / RUNS)
    write_file(results / PAGE, report(found).encode())  # last: who finds it finds all that it shows
    return Reproduction(tuple(judged), found, results / PAGE, warnings)


def _analyzed(
    made: Sequence[RunDirectory],
    planned: Sequence[PlannedRun],
    scoring: ScoringPlan,
    out: Path,
    progress: Callable[[], AbstractContextManager[Progress]],
) -> tuple[dict[str, list[Evidence]], tuple[str, ...]]:
    """Arm -> its runs in the order of the seeds, and what makes a result doubtful."""
    settings = planned[0].settings
    with progress() as bar:
        result = analyze(
            [run.path for run in made],
            data=settings.data,
            data_root=settings.data_root,
            device=resolve_device(settings.device),
            out=out,
            progress=bar,
            **asdict(scoring),
        )
    by_place = {run.run.path: run for run in result.runs}
    arms: dict[str, list[Evidence]] = {arm: [] for arm in ARMS}
    for run, plan in zip(made, planned, strict=True):
        arms[plan.arm].append(evidence(by_place[run.path]))
    return arms, result.warnings


def _curves(made: Sequence[RunDirectory], planned: Sequence[PlannedRun]) -> dict[str, dict[str, list[np.ndarray]]]:
    """Variant -> arm -> losses of each seed, in the unit of Figure 2."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for run, plan in zip(made, planned, strict=True):
        dynamics = read_dynamics(run, run.config["layers"])
        curves = in_pairs(dynamics.train[dynamics.epochs > 0], plan.settings)
        found.setdefault(plan.variant, {}).setdefault(plan.arm, []).append(curves)
    return found


def _provenance(
    made: Sequence[RunDirectory], settings: TrainSettings, data: ImageData, scoring: ScoringPlan
) -> dict[str, Any]:
    """Settings, data, machine and commits, without a path of this machine."""
    commits: dict[str, list[str]] = {}
    for run in made:
        commits.setdefault(commit_name(run.environment), []).append(run.name)
    return {
        "changed_settings": changed_settings({"settings": asdict(settings)}, NOT_THE_RECIPE),
        "scoring": {**asdict(scoring), "images": scoring.images or len(data.test)},
        "data": {
            "name": data.name,
            "n_train": len(data.train),
            "n_test": len(data.test),
            "sha256": data.fingerprint(),
        },
        "trained_with_commits": commits,
        "environment": environment(),
    }


def _keep_record(run: RunDirectory, folder: Path) -> None:
    """Copy what a run recorded, with the names of its data in place of their paths on this machine."""
    recorded = {path.name: path.read_bytes() for path in sorted(run.path.glob("[!.]*.json*"))}
    config = run.config
    config["settings"] |= {name: Path(config["settings"][name]).name for name in ("data", "data_root")}
    recorded["config.json"] = json_of(config)
    for name, content in recorded.items():
        write_file(folder / run.name / name, content)
