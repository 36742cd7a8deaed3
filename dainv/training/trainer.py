"""The training loop: epochs of updates, a record and a checkpoint after each, a stop at any moment."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dainv.augment import augmentation
from dainv.data import ImageData, ViewSampler
from dainv.devices import resolve_device
from dainv.evaluation import accuracy
from dainv.models.loading import describe_model, model_to_train
from dainv.models.tapped import TappedNetwork
from dainv.objective import layer_weights
from dainv.phases import PhaseClock, forget_peak, peak_memory
from dainv.ranks import Ranks
from dainv.reporting import Reporter
from dainv.runs import RunDirectory
from dainv.settings import TrainSettings
from dainv.signals import Interrupted, StopSignals
from dainv.sources import source_batches
from dainv.training.checks import check_classes, check_losses, check_record, check_weights
from dainv.training.config import run_config
from dainv.training.control import control_batch
from dainv.training.distributed import check_share, joined_statistics, shared_out
from dainv.training.losses import ACCURACY, LAYERS, TASK, TOTAL, StepLosses
from dainv.training.optimizer import capturable_sgd, load_optimizer_state, optimizer_state, set_learning_rate
from dainv.training.precision import set_precision
from dainv.training.resume import backend_for, checkpoint_to_resume
from dainv.training.step import TrainingStep
from dainv.training.views import Views
from dainv_kernels import Groups

_GPU_CHECK_EVERY = 100  # steps between looks at the losses where a look makes the host wait for the device


class Trainer:
    """A run in progress.

    Args:
        settings: what to do.
        data: what to do it with.
        reporter: whom to tell.
        ranks: the processes that share the work; by default this one alone.
        started_with: backend of the operator that the run was started with, where it is resumed.
    """

    def __init__(
        self,
        settings: TrainSettings,
        data: ImageData,
        reporter: Reporter,
        *,
        ranks: Ranks | None = None,
        started_with: str | None = None,
    ) -> None:
        check_classes(data)
        self.settings, self.reporter = settings, reporter
        self.ranks = Ranks() if ranks is None else ranks
        self.device = resolve_device(settings.device) if self.ranks.size == 1 else self.ranks.device
        self.backend = backend_for(settings, self.device, reporter.message, started_with)
        set_precision(settings.precision)
        torch.backends.cudnn.benchmark = self.device.type == "cuda"  # all batches have one size: try once what is best
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        self.data = replace(data, train=data.train.to(self.device), test=data.test.to(self.device))
        self.steps_per_epoch = settings.steps_per_epoch(len(data.train))
        self.total_steps = settings.total_steps(len(data.train))
        self.n_epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.step = 0
        self.clock = PhaseClock(self.device)

        torch.manual_seed(settings.seed)
        description = describe_model(
            settings.model,
            n_classes=len(data.classes),
            in_channels=data.image_shape[0],
            image_size=data.image_shape[1:],
            batch_norm=settings.batch_norm,
            width=settings.width,
            layers=settings.layers,
        )
        network = model_to_train(settings.model, description, settings.weights).to(self.device)
        network = network.to(memory_format=torch.channels_last)
        self.model = joined_statistics(network, self.ranks, self.device, reporter.message)
        self.tapped = TappedNetwork(self.model, description["layers"])
        self.layers = self.tapped.layer_names
        self._make_step()
        self.losses = torch.zeros(self.steps_per_epoch, LAYERS + len(self.layers), device=self.device)
        self.config = run_config(
            settings,
            data,
            description,
            weights=dict(zip(self.layers, self._weights_of(settings.alpha), strict=True)),
            backend=self.backend,
            device=self.device,
            processes=self.ranks.size,
        )

    def _make_step(self) -> None:
        """What an update is made of, and what it is compared with after each epoch."""
        settings = self.settings
        n_images, seed = settings.images_per_step, settings.seed
        self.share = check_share(self.ranks, n_images, settings.views, settings.invariance_scope)
        self.sampler = ViewSampler(len(self.data.train), n_images, seed)
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None
        scheme = augmentation(settings.augmentation, settings.interpolation)
        options = {"fused": settings.fused, "normalization": settings.normalization, "backend": self.backend}
        self.control = control_batch(self.data.test, scheme, n_images, settings.views, seed + 2, self.device)
        self._control_options = options
        joined = self.ranks.size > 1 and settings.invariance_scope == "global"
        own_images = len(range(*self.share.indices(n_images)))
        self.step_losses = StepLosses(
            self.tapped,
            Groups.consecutive(own_images, settings.views, self.device),
            self._weights_of(settings.alpha),
            batch_size=settings.batch_size,
            processes=self.ranks.size,
            precision=settings.precision,
            options={**options, "process_group": self.ranks.group} if joined else options,
        )
        losses = shared_out(self.step_losses, self.ranks, self.device)
        self.optimizer = capturable_sgd(self.model, settings.learning_rate, settings.momentum, settings.weight_decay)
        generator = torch.Generator(self.device).manual_seed(seed + 1)
        alone_on_gpu = self.device.type == "cuda" and self.ranks.size == 1
        self.training_step = TrainingStep(
            Views(scheme, settings.views, n_images, self.share, generator),
            torch.compile(losses, dynamic=False) if settings.compile else losses,
            module=self.model,
            optimizer=self.optimizer,
            clip_gradients=settings.clip_gradients,
            clock=self.clock,
            capture=alone_on_gpu and (not settings.compile if settings.cuda_graph is None else settings.cuda_graph),
            message=self.reporter.message,
        )
        self._prepare_epoch(0)

    @property
    def draws(self) -> torch.Generator:
        """Of the augmentation."""
        return self.training_step.views.generator

    @property
    def weights(self) -> tuple[float, ...]:
        """alpha^(l) in this epoch."""
        return self.step_losses.weights

    def _weights_of(self, alpha: float) -> tuple[float, ...]:
        return layer_weights(len(self.layers), alpha, self.settings.spread, self.settings.scheme)

    def _prepare_epoch(self, epoch: int) -> None:
        """What the schedule says for an epoch, counted from 0."""
        self.alpha = self.settings.alpha_at(epoch, self.n_epochs)
        self.learning_rate = self.settings.learning_rate_at(epoch, self.n_epochs)
        set_learning_rate(self.optimizer, self.learning_rate)
        if self.weights != (weights := self._weights_of(self.alpha)):
            self.step_losses.weigh_by(weights)
            self.training_step.forget()

    def _batches_from(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        return source_batches(self.data.train, self.sampler, step, self.share, self.device)

    def update(self) -> Tensor:
        """The next update; its row of the table of losses."""
        if self._batches is None:
            self._batches = self._batches_from(self.step)
        with self.clock.step_phase("data"):
            images, labels = next(self._batches)
        row = self.training_step(images, labels)
        self.losses[self.step % self.steps_per_epoch] = row
        self.step += 1
        return row

    def _check(self, first_step: int) -> None:
        """Bring the losses since ``first_step`` together from all processes, and stop where one is not a number."""
        first_row = first_step % self.steps_per_epoch
        rows = self.losses[first_row : first_row + self.step - first_step]
        self._average(rows)
        check_losses(rows, self.layers, first_step)

    def _average(self, rows: Tensor) -> None:
        if self.ranks.size > 1:
            self.ranks.sum_(rows)
            rows /= self.ranks.size

    def _agreed(self, flag: bool) -> bool:
        """Whether any process says so; one alone need not wait for its device to know."""
        return flag if self.ranks.size == 1 else self.ranks.any(flag)

    def _record(self, epoch: int, n_steps: int, seconds: float) -> dict[str, Any]:
        means = self.losses[:n_steps].double().mean(0).tolist()
        with self.clock.phase("evaluation"):
            control = self.control.losses(self.tapped, **self._control_options)
            test = accuracy(self.tapped, self.data.test, ranks=self.ranks)
        return {
            "epoch": epoch,
            "step": self.step,
            "learning_rate": self.learning_rate,
            "alpha": self.alpha,
            "train": {
                "loss": means[TOTAL],
                "task": means[TASK],
                "accuracy": means[ACCURACY],
                "invariance": dict(zip(self.layers, means[LAYERS:], strict=True)),
            },
            "control": {"invariance": control},
            "test": test,
            "images_per_second": n_steps * self.settings.batch_size / seconds if seconds else None,
            "seconds": seconds,
            "phase_seconds": self.clock.record(),
            "device_memory": peak_memory(self.device),
        }

    def state(self, seconds: float) -> dict[str, Any]:
        """All that a resumed run needs to end in the same bits, and the time spent on the epoch so far."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "augmentation_generator": self.draws.get_state(),
            "torch_generator": torch.get_rng_state(),
            "epoch_losses": self.losses,
            "epoch_seconds": seconds,
            "epoch_phase_seconds": dict(self.clock.seconds),
        }
        if self.device.type == "cuda":
            state["cuda_generator"] = torch.cuda.get_rng_state(self.device)
        return state

    def _restore(self, state: dict[str, Any]) -> float:
        self.step = state["step"]
        self._batches = None
        self.training_step.forget()
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        try:
            self.draws.set_state(state["augmentation_generator"].cpu())
        except RuntimeError:  # a GPU's generator has another kind of state
            self.draws.manual_seed(self.settings.seed + 1 + self.step)
            self.reporter.message("--resume: this kind of device draws other augmentations than the one before")
        torch.set_rng_state(state["torch_generator"].cpu())
        if self.device.type == "cuda" and "cuda_generator" in state:
            torch.cuda.set_rng_state(state["cuda_generator"].cpu(), self.device)
        self.losses.copy_(state["epoch_losses"])
        self.clock.restart(state.get("epoch_phase_seconds"))
        return float(state["epoch_seconds"])

    def run(self, run: RunDirectory, *, resume: bool) -> None:
        """Train to the end.

        Args:
            run: the run directory to write to.
            resume: go on from its newest checkpoint.

        Raises:
            Interrupted: by a signal; the state is saved.
            UserError: a loss that is not a number, a file that cannot be written, or no checkpoint to resume from.
        """
        seconds = 0.0
        with StopSignals(announce=self.ranks.is_main, several=self.ranks.size > 1) as signals:
            state = checkpoint_to_resume(run, self.device, self.reporter.message) if resume else None
            self.ranks.barrier()  # no process writes before all have read
            if self.ranks.is_main:
                run.remove_leftovers()
                run.keep_metrics_until(-1 if state is None else state["step"])
            if state is None:
                self._before_any_update(run)
            else:
                seconds = self._restore(state)
                del state
                self._save_best(run)  # it may have been stopped just before that
                self.reporter.message(f"resuming at step {self.step} of {self.total_steps}")
            while self.step < self.total_steps:
                self._epoch(run, signals, seconds)
                seconds = 0.0

    def _before_any_update(self, run: RunDirectory) -> None:
        """Epoch 0: the first training batch and the test set as the untrained network sees them."""
        untouched = copy.deepcopy(self.state(0.0))  # a look must not move generators or running averages
        row = self.training_step.look(*next(self._batches_from(0)))
        self._restore(untouched)
        self.losses[0] = row
        self._average(self.losses[:1])
        check_losses(self.losses[:1], self.layers, 0)
        self._end_epoch(run, self._record(0, 1, 0.0))

    def _epoch(self, run: RunDirectory, signals: StopSignals, seconds: float) -> None:
        """One epoch, or the rest of one of which ``seconds`` have passed before."""
        epoch = self.step // self.steps_per_epoch
        stop = min((epoch + 1) * self.steps_per_epoch, self.total_steps)
        self._prepare_epoch(epoch)
        self.model.train()
        forget_peak(self.device)
        alone = self.ranks.size == 1
        check_every = 1 if self.device.type == "cpu" else _GPU_CHECK_EVERY
        started = saved = time.perf_counter()
        begun = started - seconds
        first = checked = self.step
        while self.step < stop:
            self.update()
            look = self.step == stop or self.step - checked >= check_every
            if not (look or alone):
                continue  # signals and clocks are agreed on only at a look
            interrupted = self._agreed(signals.received)
            save = interrupted or self._agreed(time.perf_counter() - saved > 60 * self.settings.checkpoint_minutes)
            if not (look or save):
                continue
            self._check(checked)
            checked = self.step
            speed = (self.step - first) * self.settings.batch_size / (time.perf_counter() - started)
            loss = float(self.losses[(self.step - 1) % self.steps_per_epoch, TOTAL])
            self.reporter.step(self.step, self.total_steps, epoch + 1, loss, speed)
            if save and self.step < stop:
                check_weights(self.model, self.step)
                if self.ranks.is_main:
                    run.save_checkpoint(self.state(time.perf_counter() - begun))
                saved = time.perf_counter()
                if interrupted:
                    raise Interrupted
        check_weights(self.model, self.step)  # waits for the device
        seconds = time.perf_counter() - begun
        self._end_epoch(run, self._record(epoch + 1, stop - epoch * self.steps_per_epoch, seconds))
        if self._agreed(signals.received) and self.step < self.total_steps:
            raise Interrupted

    def _end_epoch(self, run: RunDirectory, record: dict[str, Any]) -> None:
        check_record(record)
        self.clock.restart()
        if self.ranks.is_main:
            run.append_metrics(record)  # first: a checkpoint without its record could not make it again
            run.save_checkpoint(self.state(0.0))
            self._save_best(run)
        self.reporter.epoch(record)

    def _save_best(self, run: RunDirectory) -> None:
        """Keep the state at the end of an epoch if no epoch before had its test accuracy."""
        if not self.ranks.is_main:
            return
        accuracies = {record["step"]: record["test"]["accuracy"] for record in run.metrics()}
        reached = accuracies.pop(self.step, None)  # none in the middle of an epoch
        if reached is not None and all(reached > before for before in accuracies.values()):
            run.save_best(self.state(0.0))
