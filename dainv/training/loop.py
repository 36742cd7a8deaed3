"""The training loop: updates, a look at their losses, a record after each epoch, a stop at any moment."""

from __future__ import annotations

import copy
import time

from dainv.errors import UserError
from dainv.runs import RunDirectory
from dainv.signals import Interrupted, StopSignals
from dainv.training.checks import Diverged, check_weights
from dainv.training.losses import TOTAL
from dainv.training.record import record_of
from dainv.training.resume import checkpoint_to_resume
from dainv.training.saving import Saving
from dainv.training.state import restore, state_of
from dainv.training.trainer import Trainer
from dainv.training.usage import reset_peak_memory

_GPU_CHECK_EVERY = 100  # steps between looks at the losses where a look makes the host wait for the device


def run_epochs(trainer: Trainer, run: RunDirectory, *, resume: bool) -> None:
    """Train to the end.

    Args:
        trainer: does the updates; no others before.
        run: the run directory to write to.
        resume: go on from its newest checkpoint.

    Raises:
        Interrupted: by a signal; the state is saved.
        UserError: a loss that is not a number, a file that cannot be written, or no checkpoint to resume from.
    """
    ranks = trainer.ranks
    with StopSignals(announce=ranks.is_main, several=ranks.size > 1) as signals:
        loop = _Loop(trainer, Saving(trainer, run), signals)
        try:
            seconds = loop.begin(run, resume)
            while trainer.step < trainer.total_steps:
                loop.epoch(seconds)
                seconds = 0.0
        except Diverged as error:
            kept = run.checkpoints()
            last = f"the last good checkpoint is {kept[-1].name}" if kept else "no checkpoint was written before"
            raise UserError(f"{error}; {last}") from None


class _Loop:
    def __init__(self, trainer: Trainer, saving: Saving, signals: StopSignals) -> None:
        self._trainer, self._saving, self._signals = trainer, saving, signals

    def begin(self, run: RunDirectory, resume: bool) -> float:
        """Restore a state if there is one; seconds spent on its epoch before."""
        trainer, message = self._trainer, self._trainer.reporter.message
        state = checkpoint_to_resume(run, trainer.device, message) if resume else None
        trainer.ranks.barrier()  # no process writes before all have read
        self._saving.begin(-1 if state is None else state["step"])
        if state is None:
            self._look_before_any_update()
            return 0.0
        seconds = restore(trainer, state)
        self._saving.go_on()
        step, steps = trainer.step, trainer.total_steps
        message(f"resuming at step {step} of {steps}" if step < steps else f"all {steps} steps are done")
        return seconds

    def _look_before_any_update(self) -> None:
        """Epoch 0: the first training batch and the test set as the untrained network sees them."""
        trainer = self._trainer
        untouched = copy.deepcopy(state_of(trainer, 0.0))  # a look must not move generators or running averages
        trainer.model.train()  # as in the epochs to come, whichever way the network was handed over
        row = trainer.look()
        restore(trainer, untouched)
        trainer.losses[0] = row
        trainer.check(range(1))
        self._end_epoch(epoch=0, n_steps=1, seconds=0.0)

    def epoch(self, seconds: float) -> None:
        """One epoch, or the rest of one of which ``seconds`` have passed before."""
        trainer = self._trainer
        epoch = trainer.step // trainer.steps_per_epoch
        start = epoch * trainer.steps_per_epoch
        stop = min(start + trainer.steps_per_epoch, trainer.total_steps)
        trainer.prepare_epoch(epoch)
        trainer.model.train()
        reset_peak_memory(trainer.device)
        alone = trainer.ranks.size == 1
        check_every = 1 if trainer.device.type == "cpu" else _GPU_CHECK_EVERY
        resumed_at = time.perf_counter()
        begun = resumed_at - seconds
        first = checked = trainer.step
        while trainer.step < stop:
            trainer.update()
            look = trainer.step == stop or trainer.step - checked >= check_every
            if not (look or alone):
                continue  # signals and clocks are agreed on only at a look
            interrupted = self._agreed(self._signals.received)
            save = interrupted or self._agreed(self._saving.overdue)
            if not (look or save):
                continue
            trainer.check(range(checked, trainer.step))
            checked = trainer.step
            speed = (trainer.step - first) * trainer.settings.batch_size / (time.perf_counter() - resumed_at)
            loss = float(trainer.losses[trainer.step - 1 - start, TOTAL])
            trainer.reporter.step(trainer.step, trainer.total_steps, epoch + 1, loss, speed)
            if save and trainer.step < stop:
                check_weights(trainer.model, trainer.step)
                self._saving.save(time.perf_counter() - begun)
                if interrupted:
                    raise Interrupted
        check_weights(trainer.model, trainer.step)  # waits for the device
        self._end_epoch(epoch + 1, stop - start, time.perf_counter() - begun)
        if self._agreed(self._signals.received) and trainer.step < trainer.total_steps:
            self._saving.save()
            raise Interrupted

    def _end_epoch(self, epoch: int, n_steps: int, seconds: float) -> None:
        record = record_of(self._trainer, epoch, n_steps, seconds)
        self._trainer.clock.restart()
        self._saving.end_epoch(record)
        self._trainer.reporter.epoch(record)

    def _agreed(self, flag: bool) -> bool:
        """Whether any process says so; one alone need not wait for its device to know."""
        ranks = self._trainer.ranks
        return flag if ranks.size == 1 else ranks.any(flag)
