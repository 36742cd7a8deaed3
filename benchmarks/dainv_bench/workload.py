"""What the suites work on: All-CNN-C, and batches that look like images."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dainv.augment import augmentation
from dainv.models.allcnn import AllCNNC

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
