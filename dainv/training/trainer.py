"""A run in memory: the network, its objective, its optimizer and its data, and the update that these make together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dainv.augment import augmentation
from dainv.data import ImageData, SourceSampler
from dainv.devices import resolve_device
from dainv.models.loading import describe_model, model_to_train
from dainv.models.tapped import TappedNetwork
from dainv.objective import layer_weights
from dainv.ranks import Ranks
from dainv.reporting import Reporter
from dainv.settings import TrainSettings
from dainv.sources import source_batches
from dainv.training.algorithms import choose_algorithms
from dainv.training.checks import check_classes, check_losses
from dainv.training.config import run_config
from dainv.training.control import control_batch
from dainv.training.distributed import check_share, joined_statistics, seed_draws, shared_out
from dainv.training.losses import LAYERS, StepLosses
from dainv.training.optimizer import capturable_sgd, set_learning_rate
from dainv.training.precision import set_precision
from dainv.training.resume import backend_for
from dainv.training.step import TrainingStep
from dainv.training.usage import PhaseClock
from dainv.training.views import Views
from dainv_kernels import Groups


class Trainer:
    """Does the updates of a run, one at a time; knows nothing of files.

    Args:
        settings: what to do.
        data: what to do it with.
        reporter: whom to tell.
        ranks: the processes that share the work; by default this one alone.
        started_with: backend of the operator that the run was started with, where it is resumed.

    Attributes:
        step: updates so far.
        losses: ``(steps of an epoch, 3 + L)``, the table of losses of this epoch, see :mod:`dainv.training.losses`.
        config: what ``config.json`` holds.
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
        choose_algorithms(settings.deterministic, self.device)
        self.data = replace(data, train=data.train.to(self.device), test=data.test.to(self.device))
        self.steps_per_epoch = settings.steps_per_epoch(len(data.train))
        self.total_steps = settings.total_steps(len(data.train))
        self.n_epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.step = 0
        self.clock = PhaseClock(self.device)
        description = self._make_network()
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

    def _make_network(self) -> dict[str, Any]:
        """The network with its layers tapped; what :func:`describe_model` says of it."""
        settings, data = self.settings, self.data
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
        self.model = joined_statistics(network, self.ranks, self.device, self.reporter.message)
        self.tapped = TappedNetwork(self.model, description["layers"])
        self.layers = self.tapped.layer_names
        return description

    def _make_step(self) -> None:
        """What an update is made of, and the batch that epochs are compared by."""
        settings = self.settings
        n_images, seed = settings.images_per_step, settings.seed
        self.share = check_share(self.ranks, n_images, settings.views, settings.invariance_scope)
        self.sampler = SourceSampler(len(self.data.train), n_images, seed)
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None
        scheme = augmentation(settings.augmentation, settings.interpolation)
        options = {"fused": settings.fused, "normalization": settings.normalization, "backend": self.backend}
        self.control = control_batch(self.data.test, scheme, n_images, settings.views, seed + 2, self.device, options)
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
        if settings.cuda_graph and not alone_on_gpu:
            self.reporter.message("--cuda-graph: a step is recorded by one process on one GPU; here it runs eagerly")
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
        self.prepare_epoch(0)

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

    def prepare_epoch(self, epoch: int) -> None:
        """What the schedules say for an epoch, counted from 0."""
        self.alpha = self.settings.alpha_at(epoch, self.n_epochs)
        self.learning_rate = self.settings.learning_rate_at(epoch, self.n_epochs)
        set_learning_rate(self.optimizer, self.learning_rate)
        if self.weights != (weights := self._weights_of(self.alpha)):
            self.step_losses.weights = weights
            self.training_step.forget()

    def go_to(self, step: int) -> None:
        """Let the next update be that of another step; the weights are someone else's matter."""
        self.step = step
        self._batches = None
        self.training_step.forget()

    def _batches_from(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        return source_batches(self.data.train, self.sampler, step, self.share, self.device)

    def update(self) -> Tensor:
        """The next update; its row of the table of losses."""
        if self._batches is None:
            self._batches = self._batches_from(self.step)
        if self.ranks.size > 1:
            seed_draws(self.settings.seed, self.step, self.ranks.rank)
        with self.clock.step_phase("data"):
            images, labels = next(self._batches)
        row = self.training_step(images, labels)
        self.losses[self.step % self.steps_per_epoch] = row
        self.step += 1
        return row

    def look(self) -> Tensor:
        """The row of losses of the first batch, without an update; generators and running averages move."""
        return self.training_step.look(*next(self._batches_from(0)))

    def check(self, steps: range) -> None:
        """Bring the losses of some steps of this epoch together from all processes.

        Raises:
            UserError: one that is not a number.
        """
        first_row = steps.start % self.steps_per_epoch
        rows = self.losses[first_row : first_row + len(steps)]
        if self.ranks.size > 1:
            self.ranks.sum_(rows)
            rows /= self.ranks.size
        check_losses(rows, self.layers, steps.start)
