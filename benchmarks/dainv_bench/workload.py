"""The step that is timed: All-CNN-C forward, loss, backward, SGD, on batches that look like images."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dainv.augment import augmentation
from dainv.data import SourceSampler, load_data
from dainv.models.allcnn import AllCNNC
from dainv.settings import TrainSettings
from dainv_bench.overhead.arms import Criterion, objective_of

N_CLASSES = 10
IMAGE_SIZE = 32  # pixels a side, as CIFAR-10
_BLOBS = 3  # coarse pixels a side that an image is enlarged from: its views then differ half as much as images do


class Batch(NamedTuple):
    """``(B, 3, 32, 32)`` views in [0, 1], the M of an image one after the other, and ``(B,)`` class labels."""

    views: Tensor
    labels: Tensor


def smooth_images(number: int, generator: torch.Generator) -> Tensor:
    """``(number, 3, 32, 32)`` random colours in [0, 1] that change slowly over an image."""
    coarse = torch.rand(number, 3, _BLOBS, _BLOBS, generator=generator)
    return functional.interpolate(coarse, size=IMAGE_SIZE, mode="bicubic").clamp(0, 1)


def make_batches(number: int, n_images: int, views: int, seed: int, device: torch.device) -> list[Batch]:
    """Smooth random colour images under the *heavier* augmentation, the same on every device.

    Zeros or white noise would not do: what a network makes of them, its dead units and its within-image variance, is
    unlike training, and some hardware multiplies zeros faster.
    """
    generator = torch.Generator().manual_seed(seed)
    heavier = augmentation("heavier")
    batches = []
    for _ in range(number):
        augmented = heavier(smooth_images(n_images, generator).repeat_interleave(views, dim=0), generator)
        labels = torch.randint(N_CLASSES, (n_images,), generator=generator).repeat_interleave(views)
        on_device = augmented.to(device).contiguous(memory_format=torch.channels_last)
        batches.append(Batch(on_device, labels.to(device)))
    return batches


def make_network(
    width: float,
    batch_norm: bool,
    seed: int,
    device: torch.device,
    n_classes: int = N_CLASSES,
    in_channels: int = 3,
) -> AllCNNC:
    """All-CNN-C in training mode, channels_last; the same parameters on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AllCNNC(n_classes, in_channels, batch_norm=batch_norm, width=width)
    return network.to(device).to(memory_format=torch.channels_last)


def arithmetic_on(device: torch.device) -> dict[str, Any]:
    """What these networks compute in, for the settings of a result."""
    return {
        "dtype": "float32",
        "memory_format": "channels_last",
        "tf32_convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
    }


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
