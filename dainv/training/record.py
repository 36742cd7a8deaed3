"""The record of an epoch, as metrics.jsonl has it."""

from __future__ import annotations

from typing import Any

from dainv.evaluation import accuracy
from dainv.training.checks import check_record
from dainv.training.distributed import same_buffers
from dainv.training.losses import ACCURACY, LAYERS, TASK, TOTAL
from dainv.training.trainer import Trainer
from dainv.training.usage import peak_memory


def record_of(trainer: Trainer, epoch: int, n_steps: int, seconds: float) -> dict[str, Any]:
    """Evaluate the network, and put together what an epoch was like; docs/run-directory.md explains the keys.

    Args:
        trainer: at the end of the epoch.
        epoch: epochs so far.
        n_steps: updates of this one, the rows of its table of losses.
        seconds: that they took.

    Raises:
        UserError: a loss that is not a number.
    """
    same_buffers(trainer.model, trainer.ranks)
    means = trainer.losses[:n_steps].double().mean(0).tolist()
    with trainer.clock.phase("evaluation"):
        control = trainer.control.losses(trainer.tapped)
        test = accuracy(trainer.tapped, trainer.data.test, ranks=trainer.ranks)
    record = {
        "epoch": epoch,
        "step": trainer.step,
        "learning_rate": trainer.learning_rate,
        "alpha": trainer.alpha,
        "train": {
            "loss": means[TOTAL],
            "task": means[TASK],
            "accuracy": means[ACCURACY],
            "invariance": dict(zip(trainer.layers, means[LAYERS:], strict=True)),
        },
        "control": {"invariance": control},
        "test": test,
        "images_per_second": n_steps * trainer.settings.batch_size / seconds if seconds else None,
        "seconds": seconds,
        "phase_seconds": trainer.clock.record(),
        "device_memory": peak_memory(trainer.device),
    }
    check_record(record)
    return record
