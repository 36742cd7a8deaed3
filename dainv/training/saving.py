"""When a run is saved, and in which order, so that it can be stopped at any moment."""

from __future__ import annotations

import math
import time
from typing import Any

from dainv.runs import RunDirectory
from dainv.training.state import state_of
from dainv.training.trainer import Trainer

_SECONDS_APART = 10.0  # of ends of epochs that are saved, where nothing else asks for it


class Saving:
    """Writes a run's records and checkpoints; of several processes only the main one does.

    A record is written before its checkpoint: who resumes drops the records that are newer than the checkpoint and
    makes them again, but a checkpoint without its record could not. So not every epoch needs a checkpoint. There is one
    at the end of an epoch that is the last or has the best test accuracy, or where the one before is some seconds old;
    and within an epoch every so many minutes, and when the run is stopped.

    Args:
        trainer: the run.
        run: where to write.
    """

    def __init__(self, trainer: Trainer, run: RunDirectory) -> None:
        self._trainer, self._run = trainer, run
        self._writes = trainer.ranks.is_main
        self._longest = 60 * trainer.settings.checkpoint_minutes
        self._saved_step, self._saved_at = -1, time.perf_counter()
        self._best = -math.inf

    def begin(self, step: int) -> None:
        """Clear what a killed run has left.

        Args:
            step: of the checkpoint that the run goes on from; -1 for none.
        """
        if self._writes:
            self._run.remove_leftovers()
            self._run.keep_metrics_until(step)

    def go_on(self) -> None:
        """After the state was restored: it may be the best, and the run stopped just before that was saved."""
        if not self._writes:
            return
        for record in self._run.metrics():
            if self._surpasses(record) and record["step"] == self._trainer.step:
                self._run.save_best(state_of(self._trainer, 0.0))

    def _surpasses(self, record: dict[str, Any]) -> bool:
        """Whether no epoch before had the test accuracy of this one, which is then the one to surpass."""
        best, self._best = self._best, max(self._best, record["test"]["accuracy"])
        return self._best > best

    def _age(self) -> float:
        return time.perf_counter() - self._saved_at

    @property
    def overdue(self) -> bool:
        """Whether the state should be saved within an epoch."""
        return self._writes and self._age() > self._longest

    def save(self, seconds: float = 0.0) -> None:
        """Save the state as it is.

        Args:
            seconds: spent on this epoch so far; 0 between two.
        """
        if self._writes and self._saved_step != self._trainer.step:
            self._run.save_checkpoint(state_of(self._trainer, seconds))
            self._saved_step, self._saved_at = self._trainer.step, time.perf_counter()

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Write the record, and a checkpoint where it is due."""
        if not self._writes:
            return
        self._run.append_metrics(record)
        best = self._surpasses(record)
        if best or record["step"] == self._trainer.total_steps or self._age() > min(_SECONDS_APART, self._longest):
            self.save()
        if best:
            self._run.save_best(state_of(self._trainer, 0.0))
