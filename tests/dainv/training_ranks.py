"""What the processes of ``test_training_ranks.py`` train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
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


def with_dropout(n_classes: int) -> nn.Module:
    """A network that draws numbers and averages batches."""
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes))


def resumed_run(ranks: Ranks, folder: str) -> dict[str, Any]:
    """The weights that a run ends with, uninterrupted and resumed before its last step."""
    changes = {"model": "training_ranks:with_dropout", "layers": ("0.2",), "width": 1.0, "checkpoint_minutes": 0.0}
    chosen, path = settings(json.dumps({**changes, "deterministic": True})), str(Path(folder) / "run")
    weights = []
    for resume in (False, True):
        run = train(chosen, tiny_data(), path, SilentReporter(), resume=resume, ranks=ranks)
        ranks.barrier()
        weights.append(torch.cat([value.flatten() for value in run.load_checkpoint()["model"].values()]))
        ranks.barrier()
        if ranks.is_main and not resume:
            run.checkpoints()[-1].unlink()
        ranks.barrier()
    return {"weights": weights}
