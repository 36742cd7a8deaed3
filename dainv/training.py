"""The training loop: batches of K images × M views, Eq. 4, SGD, a record an epoch, a state that survives anything."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dainv.augment import augmentation
from dainv.data import ImageData, ImageSplit, ViewSampler
from dainv.devices import resolve_backend, resolve_device
from dainv.environment import environment
from dainv.errors import UserError
from dainv.evaluation import accuracy
from dainv.models.loading import model_from_config
from dainv.objective import layer_weights, weigh
from dainv.phases import PhaseClock
from dainv.reporting import Reporter
from dainv.runs import RunDirectory
from dainv.settings import RESUMABLE, TrainSettings
from dainv.signals import Interrupted, StopSignals
from dainv.taps import evaluating
from dainv.tensorboard import TensorBoardReporter
from dainv_kernels import Groups

# Columns of the table of losses that come before those of the layers.
_TOTAL, _TASK, _ACCURACY, _LAYERS = 0, 1, 2, 3
_GPU_CHECK_EVERY = 100  # steps between looks at the losses where a look makes the host wait for the device


class Trainer:
    """A run in progress.

    Args:
        settings: what to do.
        data: what to do it with.
        reporter: whom to tell.
    """

    def __init__(self, settings: TrainSettings, data: ImageData, reporter: Reporter) -> None:
        self.settings, self.reporter = settings, reporter
        self.device = resolve_device(settings.device)
        self.backend = resolve_backend(settings, self.device, reporter.message)
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        self.data = replace(data, train=data.train.to(self.device), test=data.test.to(self.device))
        self.steps_per_epoch = settings.steps_per_epoch(len(data.train))
        self.total_steps = settings.total_steps(len(data.train))
        self.n_epochs = math.ceil(self.total_steps / self.steps_per_epoch)

        torch.manual_seed(settings.seed)
        description = {
            "name": "allcnn",
            "n_classes": len(data.classes),
            "in_channels": data.image_shape[0],
            "batch_norm": settings.batch_norm,
            "width": settings.width,
        }
        self.model = model_from_config({"model": description}).to(self.device).to(memory_format=torch.channels_last)
        self.layers = self.model.layer_names
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            weight_decay=settings.weight_decay,
        )
        self.sampler = ViewSampler(len(data.train), settings.images_per_step, settings.seed)
        self.scheme = augmentation(settings.augmentation)
        if self.scheme.interpolation != settings.interpolation:
            self.scheme = replace(self.scheme, interpolation=settings.interpolation)
        self.draws = torch.Generator(self.device).manual_seed(settings.seed + 1)
        self.groups = Groups.consecutive(settings.images_per_step, settings.views, self.device)
        self.control = self._control_batch()
        self.step = 0
        self.clock = PhaseClock(self.device)
        self._prepare_epoch(0)
        self.losses = torch.zeros(self.steps_per_epoch, _LAYERS + len(self.layers), device=self.device)
        self.config: dict[str, Any] = {
            "settings": asdict(settings),
            "model": description,
            "data": {
                "name": data.name,
                "classes": list(data.classes),
                "image_shape": list(data.image_shape),
                "n_train": len(data.train),
                "n_test": len(data.test),
                "sha256": data.fingerprint(),
            },
            "layers": list(self.layers),
            "weights": list(self._weights_of(settings.alpha)),
            "backend": self.backend,
            "device": str(self.device),
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
        }

    def _weights_of(self, alpha: float) -> tuple[float, ...]:
        return layer_weights(len(self.layers), alpha, self.settings.spread, self.settings.scheme)

    def _prepare_epoch(self, epoch: int) -> None:
        """What the schedule says for an epoch, counted from 0."""
        self.alpha = self.settings.alpha_at(epoch, self.n_epochs)
        self.weights = self._weights_of(self.alpha)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(epoch, self.n_epochs)

    def _control_batch(self) -> tuple[Tensor, Groups]:
        """One batch of test images, the same views in every epoch and in every run with this seed."""
        generator = torch.Generator().manual_seed(self.settings.seed + 2)
        test: ImageSplit = self.data.test
        chosen = torch.randperm(len(test), generator=generator)[: self.settings.images_per_step].to(self.device)
        views = test.batch(chosen).repeat_interleave(self.settings.views, dim=0)
        views = self.scheme.apply(views, self.scheme.parameters(len(views), generator).to(self.device))
        groups = Groups.consecutive(len(chosen), self.settings.views, self.device)
        return views.contiguous(memory_format=torch.channels_last), groups

    def _training_batch(self, step: int) -> tuple[Tensor, Tensor]:
        chosen = self.sampler.indices(step).to(self.device).repeat_interleave(self.settings.views)
        views = self.scheme(self.data.train.batch(chosen), self.draws)
        return views.contiguous(memory_format=torch.channels_last), self.data.train.labels[chosen]

    def _losses(self, views: Tensor, groups: Groups, weights: Sequence[float]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model.forward_losses(
            views,
            groups,
            weights,
            fused=self.settings.fused,
            normalization=self.settings.normalization,
            backend=self.backend,
        )

    def forward(self, step: int) -> tuple[Tensor, Tensor]:
        """Total loss of a step's batch (Eq. 4), and a row of the table of losses."""
        with self.clock.step_phase("data"):
            views, labels = self._training_batch(step)
        with self.clock.step_phase("update"):
            logits, losses = self._losses(views, self.groups, self.weights)
            objective = weigh(functional.cross_entropy(logits, labels), losses, self.weights)
            correct = (logits.argmax(1) == labels).float().mean()
            row = [objective.total, objective.task, correct, *objective.invariance.values()]
            return objective.total, torch.stack([value.detach().float() for value in row])

    def update(self, total: Tensor) -> None:
        """The backward pass and a step of the optimizer."""
        with self.clock.step_phase("update"):
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            if self.settings.clip_gradients is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_gradients)
            self.optimizer.step()

    def _control_losses(self) -> dict[str, float]:
        views, groups = self.control
        with evaluating(self.model):
            _, losses = self._losses(views, groups, [0.0] * len(self.layers))
        return {name: float(loss) for name, loss in losses.items()}

    def _check(self, first_step: int) -> None:
        """Stop at the first loss since ``first_step`` that is not a number.

        Raises:
            UserError: names the step and the first layer.
        """
        first_row = first_step % self.steps_per_epoch
        finite = self.losses[first_row : first_row + self.step - first_step].isfinite()
        if bool(finite.all()):
            return
        offset = int((~finite).any(1).nonzero()[0])
        bad_layers = [
            name for name, good in zip(self.layers, finite[offset, _LAYERS:].tolist(), strict=True) if not good
        ]
        what = f"invariance loss of {bad_layers[0]}" if bad_layers else "task loss"
        raise UserError(
            f"step {first_step + offset + 1}: the {what} is not a finite number; "
            "the last good checkpoint is kept (a smaller --learning-rate may help)"
        )

    def _check_weights(self) -> None:
        """Keep an update that ruined the network out of the checkpoints; the losses show it only a step later.

        Raises:
            UserError: names the step and the first layer.
        """
        for name, value in self.model.state_dict().items():
            if not bool(value.isfinite().all()):
                raise UserError(
                    f"step {self.step}: the update made {name} infinite or not a number; "
                    "the last good checkpoint is kept (a smaller --learning-rate may help)"
                )

    def _record(self, epoch: int, n_steps: int, seconds: float) -> dict[str, Any]:
        means = self.losses[:n_steps].double().mean(0).tolist()
        with self.clock.phase("evaluation"):
            control, test = self._control_losses(), accuracy(self.model, self.data.test)
        return {
            "epoch": epoch,
            "step": self.step,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "alpha": self.alpha,
            "train": {
                "loss": means[_TOTAL],
                "task": means[_TASK],
                "accuracy": means[_ACCURACY],
                "invariance": dict(zip(self.layers, means[_LAYERS:], strict=True)),
            },
            "control": {"invariance": control},
            "test": test,
            "images_per_second": n_steps * self.settings.batch_size / seconds if seconds else None,
            "seconds": seconds,
            "phase_seconds": self.clock.record(),
        }

    def state(self, seconds: float) -> dict[str, Any]:
        """All that a resumed run needs to end in the same bits, and the time spent on the epoch so far."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "augmentation_generator": self.draws.get_state(),
            "torch_generator": torch.get_rng_state(),
            "epoch_losses": self.losses,
            "epoch_seconds": seconds,
            "epoch_phase_seconds": dict(self.clock.seconds),
        }

    def _restore(self, state: dict[str, Any]) -> float:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.draws.set_state(state["augmentation_generator"].cpu())
        torch.set_rng_state(state["torch_generator"].cpu())
        self.losses.copy_(state["epoch_losses"])
        self.clock = PhaseClock(self.device, state.get("epoch_phase_seconds"))
        return float(state["epoch_seconds"])

    def run(self, run: RunDirectory, *, resume: bool) -> None:
        """Train to the end.

        Args:
            run: the run directory to write to.
            resume: go on from its newest checkpoint.

        Raises:
            Interrupted: by a signal; the state is saved.
            UserError: a loss that is not a number, or a file that cannot be written.
        """
        seconds = 0.0
        with StopSignals() as signals:
            run.remove_leftovers()
            if resume and run.checkpoints():
                seconds = self._restore(run.load_checkpoint(self.device, self.reporter.message))
                run.keep_metrics_until(self.step)
                self._save_best(run)  # it may have been stopped just before that
                self.reporter.message(f"resuming at step {self.step} of {self.total_steps}")
            else:
                run.keep_metrics_until(-1)
                self._before_any_update(run)
            while self.step < self.total_steps:
                self._epoch(run, signals, seconds)
                seconds = 0.0

    def _before_any_update(self, run: RunDirectory) -> None:
        """Epoch 0: the first training batch and the test set as the untrained network sees them."""
        untouched = copy.deepcopy(self.state(0.0))  # a look must not move generators or running averages
        with torch.no_grad():
            row = self.forward(0)[1]
        self._restore(untouched)
        self.losses[0] = row
        self._end_epoch(run, self._record(0, 1, 0.0))

    def _epoch(self, run: RunDirectory, signals: StopSignals, seconds: float) -> None:
        """One epoch, or the rest of one of which ``seconds`` have passed before."""
        epoch = self.step // self.steps_per_epoch
        stop = min((epoch + 1) * self.steps_per_epoch, self.total_steps)
        self._prepare_epoch(epoch)
        self.model.train()
        check_every = 1 if self.device.type == "cpu" else _GPU_CHECK_EVERY
        started = saved = time.perf_counter()
        begun = started - seconds
        first = checked = self.step
        while self.step < stop:
            total, row = self.forward(self.step)
            self.losses[self.step % self.steps_per_epoch] = row
            self.step += 1
            interrupted = signals.received
            save = interrupted or time.perf_counter() - saved > 60 * self.settings.checkpoint_minutes
            if save or self.step == stop or self.step - checked >= check_every:
                self._check(checked)
                checked = self.step
                speed = (self.step - first) * self.settings.batch_size / (time.perf_counter() - started)
                self.reporter.step(self.step, self.total_steps, epoch + 1, float(row[_TOTAL]), speed)
            self.update(total)
            if save and self.step < stop:
                self._check_weights()
                run.save_checkpoint(self.state(time.perf_counter() - begun))
                saved = time.perf_counter()
                if interrupted:
                    raise Interrupted
        self._check_weights()  # waits for the device
        seconds = time.perf_counter() - begun
        self._end_epoch(run, self._record(epoch + 1, stop - epoch * self.steps_per_epoch, seconds))
        if signals.received and self.step < self.total_steps:
            raise Interrupted

    def _end_epoch(self, run: RunDirectory, record: dict[str, Any]) -> None:
        run.append_metrics(record)  # first: a checkpoint without its record could not make it again
        self.clock = PhaseClock(self.device)
        run.save_checkpoint(self.state(0.0))
        self._save_best(run)
        self.reporter.epoch(record)

    def _save_best(self, run: RunDirectory) -> None:
        """Keep the state at the end of an epoch if no epoch before had its test accuracy."""
        accuracies = {record["step"]: record["test"]["accuracy"] for record in run.metrics()}
        reached = accuracies.pop(self.step, None)  # none in the middle of an epoch
        if reached is not None and all(reached > before for before in accuracies.values()):
            run.save_best(self.state(0.0))


def _refuse_changes(run: RunDirectory, config: dict[str, Any]) -> None:
    """A resumed run has to be the run that was started.

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
    if started["data"]["sha256"] != now["data"]["sha256"]:
        raise UserError(f"--resume: {now['settings']['data']} are other data than {run.path} was started with")


def _shown(value: Any) -> str:
    return "not set" if value in (None, "") else str(value)


def train(settings: TrainSettings, data: ImageData, run_path: str, reporter: Reporter, *, resume: bool) -> RunDirectory:
    """Train All-CNN-C and leave a run directory.

    Args:
        settings: what to do.
        data: the images.
        run_path: the run directory.
        reporter: told about progress.
        resume: continue the run at this path; its settings have to be the same.

    Returns:
        The run directory.

    Raises:
        UserError: what a user can mend.
        Interrupted: by a signal; the state is saved.
    """
    curves = TensorBoardReporter(reporter, RunDirectory(run_path)) if settings.tensorboard else None
    trainer = Trainer(settings, data, curves or reporter)
    if resume:
        run = RunDirectory.open(run_path)
        _refuse_changes(run, trainer.config)
    else:
        run = RunDirectory.create(run_path, trainer.config, environment())
    trainer.run(run, resume=resume)
    if curves is not None:
        curves.close()
    return run
