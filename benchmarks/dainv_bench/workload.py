"""The step that is timed: All-CNN-C forward, loss, backward, SGD, on batches that look like images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dainv.augment import augmentation
from dainv.models.allcnn import AllCNNC
from dainv.settings import TrainSettings
from dainv_bench.arms import Criterion, objective_of

N_CLASSES = 10
IMAGE_SIZE = 32  # pixels a side, as CIFAR-10
_BLOBS = 3  # coarse pixels a side that an image is enlarged from: its views then differ half as much as images do


class Batch(NamedTuple):
    """``(B, 3, 32, 32)`` views in [0, 1], the M of an image one after the other, and ``(B,)`` class labels."""

    views: Tensor
    labels: Tensor


def make_batches(number: int, n_images: int, views: int, seed: int, device: torch.device) -> list[Batch]:
    """Smooth random colour images under the *heavier* augmentation, the same on every device.

    Zeros or white noise would not do: what a network makes of them, its dead units and its within-image variance, is
    unlike training, and some hardware multiplies zeros faster.
    """
    generator = torch.Generator().manual_seed(seed)
    heavier = augmentation("heavier")
    batches = []
    for _ in range(number):
        coarse = torch.rand(n_images, 3, _BLOBS, _BLOBS, generator=generator)
        images = functional.interpolate(coarse, size=IMAGE_SIZE, mode="bicubic").clamp(0, 1)
        augmented = heavier(images.repeat_interleave(views, dim=0), generator)
        labels = torch.randint(N_CLASSES, (n_images,), generator=generator).repeat_interleave(views)
        on_device = augmented.to(device).contiguous(memory_format=torch.channels_last)
        batches.append(Batch(on_device, labels.to(device)))
    return batches


def make_network(width: float, batch_norm: bool, seed: int, device: torch.device) -> AllCNNC:
    """All-CNN-C in training mode, channels_last; the same parameters on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AllCNNC(N_CLASSES, batch_norm=batch_norm, width=width)
    return network.to(device).to(memory_format=torch.channels_last)


class TrainingStep:
    """A network of its own that one arm trains, step by step, as ``dainv train`` does.

    Args:
        network: where to start from; copied.
        criterion: what the arm minimises.
        batches: what it is trained on, in turn.
    """

    def __init__(self, network: AllCNNC, criterion: Criterion, batches: Sequence[Batch]) -> None:
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
