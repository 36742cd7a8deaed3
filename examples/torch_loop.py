"""A plain torch training loop on handwritten digits; what the invariance objective adds to it is marked.

Run it with ``python examples/torch_loop.py``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

import dainv
from dainv.data import load_data

IMAGES, VIEWS = 16, 8  # K source images in a batch, M augmented views of each


def convolution(inputs: int, outputs: int) -> nn.Module:
    """Convolution, normalisation, ReLU; half as many pixels a side."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def main(steps: int = 60, alpha: float = 0.1) -> dict[str, float]:
    """Train, and return the invariance loss of each layer on the last batch."""
    torch.manual_seed(0)
    digits = load_data("digits").train
    augment = dainv.augmentation("heavier")
    features = nn.Sequential(convolution(3, 16), convolution(16, 32), convolution(32, 64))
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    objective = dainv.InvarianceObjective(model, "0.?", alpha=alpha)  # added (1): the layers, by name

    for step in range(1, steps + 1):
        source = torch.randperm(len(digits))[:IMAGES].repeat_interleave(VIEWS)  # added (2): M views of each image
        views = augment(digits.images[source] / 255)
        task_loss = functional.cross_entropy(model(views), digits.labels[source])
        loss = objective(task_loss, source)  # added (3): Eq. 4

        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        if step % 20 == 0:
            layers = "  ".join(f"layer {name} {value:.3f}" for name, value in loss.invariance.items())
            print(f"step {step}  cross-entropy {loss.task:.3f}  invariance loss: {layers}")
    return {name: float(value.detach()) for name, value in loss.invariance.items()}


if __name__ == "__main__":
    main()
