"""What the processes of ``test_training_ranks.py`` train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from training_runs import SMALL, Recorder, tiny_data

from dainv.ranks import Ranks
from dainv.reporting import SilentReporter
from dainv.settings import TrainSettings
from dainv.training import Trainer, train

# Seven source images a batch: neither two nor three processes have equal shares. With seed 0 a rounding decides whether
# a unit is on in the fourth step.
SETTINGS: dict[str, Any] = {
    **SMALL,
    "batch_size": 28,
    "epochs": 2,
    "seed": 1,
    "deterministic": False,
    "backend": "torch",
}


def settings(changes: str) -> TrainSettings:
    return TrainSettings(**{**SETTINGS, **json.loads(changes or "{}")})


def updates(ranks: Ranks, changes: str = "") -> dict[str, Any]:
    """Losses of three updates and what they make of the parameters; the changes are settings, as JSON."""
    recorder = Recorder()
    trainer = Trainer(settings(changes), tiny_data(), recorder, ranks=ranks)
    for _ in range(3):
        trainer.update()
    trainer.check(range(3))
    return {
        "losses": trainer.losses[:3],
        "parameters": torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()]),
        "drawn": trainer.draws.get_state(),
        "messages": recorder.messages,
    }


def whole_run(ranks: Ranks, folder: str) -> dict[str, Any]:
    """A run from its start to its end, and what this process told."""
    reporter = Recorder() if ranks.is_main else SilentReporter()
    run = train(settings(""), tiny_data(), str(Path(folder) / "run"), reporter, resume=False, ranks=ranks)
    return {"epochs": len(reporter.records) if isinstance(reporter, Recorder) else -1, "name": run.name}
