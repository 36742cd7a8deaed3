"""What a resumed run has to have in common with the run that was started."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from dainv.devices import resolve_backend
from dainv.errors import UserError
from dainv.runs import RunDirectory
from dainv.settings import RESUMABLE, TrainSettings
from dainv_kernels.backends import choose_backend


def refuse_changes(run: RunDirectory, config: dict[str, Any]) -> None:
    """A resumed run has to be the run that was started.

    Args:
        run: as it was started.
        config: what its ``config.json`` would be, started now.

    Raises:
        UserError: names the setting that differs.
    """
    started, now = run.config, json.loads(json.dumps(config))
    # A run of an earlier version knows nothing of later settings: it was as their defaults are.
    settings = {**json.loads(json.dumps(asdict(TrainSettings()))), **started["settings"]}
    for name, value in now["settings"].items():
        if name not in RESUMABLE and settings[name] != value:
            option = name.replace("_", "-")
            raise UserError(f"--resume: --{option} is {_shown(settings[name])} in {run.path}, not {_shown(value)}")
    before, processes = started.get("processes", 1), now["processes"]
    if now["settings"]["invariance_scope"] == "local" and before != processes:
        raise UserError(
            f"--resume: --invariance-scope local goes on with as many processes as {run.path} was started with: "
            f"{before}, not {processes}"
        )
    if started["data"]["sha256"] != now["data"]["sha256"]:
        raise UserError(f"--resume: {now['settings']['data']} are other data than {run.path} was started with")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "not set"
    return "not set" if value in (None, "") else str(value)


def backend_for(
    settings: TrainSettings, device: torch.device, message: Callable[[str], None], started_with: str | None
) -> str:
    """The operator's backend: that of the run that is resumed, where it works here.

    Args:
        settings: of the run; a backend that they name is insisted on.
        device: that computes.
        message: told where another one has to be taken.
        started_with: the backend of the run that is resumed; None for a new run.

    Raises:
        UserError: the backend asked for by name does not work here.
    """
    if started_with is None or settings.backend is not None:
        return resolve_backend(settings, device, message)
    try:
        return choose_backend(started_with, torch.empty(1, device=device))
    except (RuntimeError, ValueError) as error:
        chosen = resolve_backend(settings, device, lambda _text: None)
        message(
            f"--resume: the run was started with backend {started_with}, which does not work here ({error}); "
            f"it goes on with {chosen}, to rounding the same"
        )
        return chosen


def _epochs_without_record(run: RunDirectory, step: int) -> list[int]:
    """Of those that were done after so many updates; each is recorded before a checkpoint of it is written."""
    of_an_epoch, total = run.config["steps_per_epoch"], run.config["total_steps"]
    done = -(-step // of_an_epoch) if step == total else step // of_an_epoch
    recorded = {record["epoch"] for record in run.metrics()}
    return [epoch for epoch in range(done + 1) if epoch not in recorded]


def checkpoint_to_resume(
    run: RunDirectory, device: torch.device, message: Callable[[str], None]
) -> dict[str, Any] | None:
    """The newest state of a run that can be read; None for one that was killed before it had any.

    Args:
        run: the run.
        device: where to put the tensors.
        message: told of damaged checkpoints that are passed over, and of records that are lost.

    Raises:
        UserError: there are checkpoints and none can be read; or there are none, though there were updates.
    """
    if run.checkpoints():
        state = run.load_checkpoint(device, message)
        if missing := _epochs_without_record(run, state["step"]):
            message(f"metrics.jsonl has no readable record of epoch {', '.join(map(str, missing))}; it stays so")
        return state
    updates = max((record["step"] for record in run.metrics()), default=0)
    if updates:
        raise UserError(
            f"--resume: {run.path} has metrics of {updates} updates but no checkpoint to go on from; "
            "put one back, or start again with another --run-dir"
        )
    return None
