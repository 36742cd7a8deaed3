"""The step that is timed: forward pass, loss, backward pass, SGD, on batches made beforehand or as they are needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dainv.augment import augmentation
from dainv.data import SourceSampler, load_data
from dainv.models.allcnn import AllCNNC
from dainv.settings import TrainSettings
from dainv_bench.overhead.arms import Criterion, objective_of
from dainv_bench.workload import Batch


class Loader:
    """The batches of ``dainv train``: drawn from real images and augmented when they are asked for.

    Args:
        data: where the images come from; see :func:`dainv.data.load_data`.
        n_images: K, source images a batch.
        views: M, views of each.
        seed: of orders and augmentation.
        device: where the batches are made.

    Raises:
        UserError: no such data, or fewer images than a batch needs.
    """

    def __init__(self, data: str, n_images: int, views: int, seed: int, device: torch.device) -> None:
        loaded = load_data(data)
        self.n_classes, self.in_channels = len(loaded.classes), loaded.image_shape[0]
        self._images = loaded.train.to(device)
        self._sampler = SourceSampler(len(self._images), n_images, seed)
        self._views = views
        self._heavier = augmentation("heavier")
        self._draws = torch.Generator(device).manual_seed(seed)
        self._device = device
        # As many samples as there are images, so as many updates as training without views makes in an epoch.
        self._length = math.ceil(len(self._images) / (n_images * views))

    def __len__(self) -> int:
        """Updates an epoch."""
        return self._length

    def __getitem__(self, number: int) -> Batch:
        """Batch number so and so; its views are drawn anew each time."""
        chosen = self._sampler.indices(number).to(self._device).repeat_interleave(self._views)
        views = self._heavier(self._images.batch(chosen), self._draws)
        return Batch(views.contiguous(memory_format=torch.channels_last), self._images.labels[chosen])


Batches = Sequence[Batch] | Loader  # by number; a list of them begins anew after the last


class TrainingStep:
    """A network of its own that one arm trains, step by step, as ``dainv train`` does.

    Args:
        network: where to start from; copied.
        criterion: what the arm minimises.
        batches: what it is trained on, in turn.
    """

    def __init__(self, network: AllCNNC, criterion: Criterion, batches: Batches) -> None:
        published = TrainSettings()
        self.network = copy.deepcopy(network)
        self._criterion = criterion
        self._batches = batches
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), lr=published.learning_rate, momentum=published.momentum, nesterov=True
        )

    def __call__(self, number: int) -> None:
        """Update number so and so, counted from 0."""
        loss = self._loss(self._batches[number % len(self._batches)])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def _loss(self, batch: Batch) -> Tensor:
        # A function of its own, so that the activations are the graph's alone when the backward pass begins.
        return objective_of(self._criterion, self.network, batch.views, batch.labels).total
