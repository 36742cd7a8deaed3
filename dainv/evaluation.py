"""How well a model classifies."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from dainv.data import ImageSplit
from dainv.taps import evaluating


def accuracy(model: nn.Module, split: ImageSplit, batch_size: int = 500) -> dict[str, float]:
    """Cross-entropy (nats) and accuracy (share of correct answers) on images as they are.

    Args:
        model: gives logits ``(n, n_classes)``; put in eval mode and back.
        split: images and labels, on the model's device.
        batch_size: images at a time.

    Returns:
        ``{"loss": ..., "accuracy": ...}``, means over the images.
    """
    loss = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    with evaluating(model):
        for indices in torch.arange(len(split), device=split.labels.device).split(batch_size):
            images = split.batch(indices).contiguous(memory_format=torch.channels_last)
            logits, labels = model(images), split.labels[indices]
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
    return {"loss": float(loss) / len(split), "accuracy": int(correct) / len(split)}
