"""Which runs can be analyzed together, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dainv.errors import UserError
from dainv.runs import REPORT, RunDirectory

_NEEDED = {
    "settings": ("alpha", "data", "data_root", "image_size", "normalization", "seed"),
    "model": ("name",),
    "data": ("name", "sha256", "n_test", "classes"),
}


class Opened(NamedTuple):
    """A run directory and its configuration."""

    run: RunDirectory
    config: dict[str, Any]


def open_runs(
    run_dirs: Sequence[str | Path], checkpoint: str, out: str | Path | None, warn: Callable[[str], None]
) -> list[Opened]:
    """Open run directories, as ``runs/*`` names them: what is no run or has nothing to score yet is left out.

    Args:
        run_dirs: the paths.
        checkpoint: which checkpoint of each.
        out: folder for what compares the runs.
        warn: told what was left out.

    Raises:
        UserError: a path does not exist, nothing is left, a run is given twice, or runs share no layer.
    """
    if not run_dirs:
        raise UserError("no run directory given")
    opened: list[Opened] = []
    for path in run_dirs:
        try:
            opened.append(_open(path, checkpoint))
        except _NothingToScore as error:
            if len(run_dirs) == 1:
                raise UserError(str(error)) from None
            warn(f"left out: {error}")
    if not opened:
        raise UserError(f"none of the {len(run_dirs)} paths is a run that can be scored; `dainv train` makes one")
    places = [one.run.path.resolve() for one in opened]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise UserError(f"{opened[number].run.path}: given twice")
    _tell_apart([one.run for one in opened])
    _layers_in_common(opened)
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"--out {out}: a file is in the way; expected a folder")
    for one in opened:
        _expect_writable(one.run)
    return opened


class _NothingToScore(Exception):
    """A path that can be left out where others are given."""


def _open(path: str | Path, checkpoint: str) -> Opened:
    if not Path(path).exists():
        raise UserError(f"{path}: no such run directory")
    try:
        run = RunDirectory.open(path, checkpoint)
    except UserError as error:
        raise _NothingToScore(str(error)) from None
    config = _configuration(run)
    if checkpoint == "newest" and not run.checkpoints():
        raise _NothingToScore(f"{run.path}: no readable checkpoint")
    if not run.metrics():
        raise _NothingToScore(f"{run.path}: no metrics; has the training begun?")
    return Opened(run, config)


def _configuration(run: RunDirectory) -> dict[str, Any]:
    """A run's config.json with all that the analysis needs in it."""
    config = run.config
    for part, keys in _NEEDED.items():
        section = config.get(part)
        for key in keys:
            if not isinstance(section, dict) or key not in section:
                raise UserError(f"{run.path}: config.json has no {part}.{key}; was it written by `dainv train`?")
    if not config.get("layers"):
        raise UserError(f"{run.path}: config.json names no layers")
    return config


def _tell_apart(runs: Sequence[RunDirectory]) -> None:
    """Call runs whose directories have the same name by as much of their paths as tells them apart."""
    paths = [run.path.resolve().parts for run in runs]
    for run, path in zip(runs, paths, strict=True):
        depth = 1
        while sum(other[-depth:] == path[-depth:] for other in paths) > 1:
            depth += 1
        run.name = "/".join(path[-depth:])


def _expect_writable(run: RunDirectory) -> None:
    """Where nothing can be written, say so before the work, not after it."""
    try:
        writable = os.access(run.analysis_path(REPORT).parent, os.W_OK)
    except UserError:
        if os.access(run.path, os.W_OK):  # a file is in the way
            raise
        writable = False
    if not writable:
        raise UserError(f"{run.path}: cannot be written, and its scores are kept in it; analyze a copy of it")


def _layers_in_common(opened: Sequence[Opened]) -> None:
    """Layers are matched by name; a run that shares none with the first cannot be drawn beside it."""
    first = opened[0]
    for one in opened[1:]:
        if not set(one.config["layers"]) & set(first.config["layers"]):
            raise UserError(
                f"{one.run.path}: none of its layers ({_some(one.config['layers'])}) has the name of one of "
                f"{first.run.path} ({_some(first.config['layers'])}); analyze them one at a time"
            )


def _some(layers: Sequence[str]) -> str:
    return ", ".join(layers if len(layers) <= 4 else [*layers[:3], "…", layers[-1]])
