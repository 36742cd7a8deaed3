"""Making the runs of a plan: what is finished is left alone, what was begun goes on, what has changed is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dainv.analysis.arms import settings_of
from dainv.data import ImageData
from dainv.errors import UserError
from dainv.reporting import Reporter
from dainv.reproduction.planned_runs import PlannedRun
from dainv.runs import RunDirectory
from dainv.settings import RESUMABLE, TrainSettings
from dainv.training import train

Reporting = Callable[[], AbstractContextManager[Reporter]]


def make_runs(
    folder: Path,
    planned: Sequence[PlannedRun],
    data: ImageData,
    reporting: Reporting,
    say: Callable[[str], None] = lambda _: None,
) -> list[RunDirectory]:
    """Train what is not finished.

    Args:
        folder: of the reproduction.
        planned: the runs, in order.
        data: what they are trained on.
        reporting: a new reporter for each run.
        say: told what is done with each run.

    Raises:
        UserError: a run that is there was made with other settings or data, named; before anything is trained.
        Interrupted: by a signal; the state is saved.
    """
    sha256 = data.fingerprint()
    for run in planned:
        if _exists(folder / run.folder):
            _check_same(RunDirectory.open(folder / run.folder), run.settings, sha256)
    made = []
    for number, run in enumerate(planned, start=1):
        path = folder / run.folder
        begun = _exists(path)
        if begun and is_finished(RunDirectory.open(path)):
            say(f"{run.folder}: finished")
        else:
            say(f"{run.folder}: run {number} of {len(planned)}")
            with reporting() as reporter:
                train(run.settings, data, str(path), reporter, resume=begun)
        made.append(RunDirectory.open(path))
    return made


def adopt(folder: Path, planned: Sequence[PlannedRun], source: str | Path) -> str:
    """Copy a run that was made elsewhere to its place in the plan; one that is not finished goes on from there.

    Args:
        folder: of the reproduction.
        planned: the runs.
        source: a run directory, which is left as it is.

    Returns:
        A line that says what was done.

    Raises:
        UserError: no run directory, or one that is not in the plan; the message names the setting that differs.
    """
    origin = RunDirectory.open(source)
    settings = origin.config.get("settings", {})
    arm = "invariance" if settings.get("alpha") else "baseline"
    run = next((run for run in planned if (run.arm, run.settings.seed) == (arm, settings.get("seed"))), None)
    if run is None:
        seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.settings.seed for run in planned))
        raise UserError(f"{source}: a run with seed {settings.get('seed')}, which is not among --seeds {seeds}")
    _check_same(origin, run.settings, None)
    place = folder / run.folder
    if place.exists():
        return f"{run.folder}: there already, {source} is not needed"
    unfinished = place.with_name(f".{place.name}.copying")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(origin.path, unfinished)
        unfinished.rename(place)
    except OSError as error:
        raise UserError(f"{source}: cannot be copied to {place} ({error})") from None
    return f"{run.folder}: copied from {source}"


def is_finished(run: RunDirectory) -> bool:
    """Whether all updates were made, and their records and last checkpoint can be read."""
    records, checkpoints, last = run.metrics(), run.checkpoints(), run.config["total_steps"]
    return bool(records and checkpoints) and records[-1]["step"] == last == int(
        checkpoints[-1].stem.removeprefix("step-")
    )


def _exists(path: Path) -> bool:
    return (path / "config.json").is_file()


def _check_same(run: RunDirectory, settings: TrainSettings, sha256: str | None) -> None:
    """A run found in place has to be the one planned.

    Raises:
        UserError: names the setting that differs.
    """
    config = run.config
    was = settings_of(config)
    for name, value in settings_of({"settings": asdict(settings)}).items():
        if name not in RESUMABLE and was[name] != value:
            option = name.replace("_", "-")
            raise UserError(
                f"{run.path}: made with --{option} {_shown(was[name])}, not {_shown(value)}; "
                "give the same options again, or another folder"
            )
    if sha256 is not None and config["data"]["sha256"] != sha256:
        raise UserError(f"{run.path}: made with other data than {settings.data}; give the same, or another folder")


def _shown(value: Any) -> str:
    return "not set" if value in (None, "", []) else str(value)
