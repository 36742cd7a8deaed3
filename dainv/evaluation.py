"""How well a model classifies."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from dainv.data import Split
from dainv.ranks import Ranks
from dainv.taps import evaluating


def accuracy(
    model: nn.Module, split: Split, batch_size: int | None = None, ranks: Ranks | None = None
) -> dict[str, float]:
    """Cross-entropy (nats) and accuracy (share of correct answers) on images as they are.

    Args:
        model: gives logits ``(n, n_classes)``; put in eval mode and back.
        split: images and labels, on the model's device.
        batch_size: images at a time; by default 500, and 50 on a CPU, whose caches larger ones leave.
        ranks: processes that share the images, each of which calls this; by default this one alone.

    Returns:
        ``{"loss": ..., "accuracy": ...}``, means over all images.
    """
    device = split.labels.device
    batch_size = batch_size or (50 if device.type == "cpu" else 500)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    share = slice(None) if ranks is None else ranks.share(len(split))
    with evaluating(model):
        for indices in torch.arange(len(split), device=device)[share].split(batch_size):
            images = split.batch(indices).contiguous(memory_format=torch.channels_last)
            logits, labels = model(images), split.labels[indices]
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
    if ranks is not None and ranks.size > 1:
        ranks.sum_(loss)
        ranks.sum_(correct)
    return {"loss": float(loss) / len(split), "accuracy": int(correct) / len(split)}
