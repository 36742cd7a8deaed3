"""Invariance over time: the frames of a video clip form a group, so that representations change slowly.

Frames that follow one another belong together, whatever their labels; Section 2.3 of the paper motivates its loss by
this correlation in what reaches the visual cortex. The clips are digits that drift, turn and grow.
Run it with ``python examples/video_frames.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

import dainv
from dainv.augment import PARAMETERS
from dainv.data import load_data

CLIPS, FRAMES = 8, 6


def film(images: Tensor) -> Tensor:
    """A clip of each image, ``(n, C, H, W)`` to ``(n * FRAMES, C, H, W)``, from one random pose to another."""
    scheme = dainv.augmentation("heavier")
    first, last = scheme.parameters(len(images)), scheme.parameters(len(images))
    last[:, PARAMETERS.index("flip")] = first[:, PARAMETERS.index("flip")]  # nothing is mirrored on the way
    time = torch.linspace(0, 1, FRAMES)[None, :, None]
    poses = torch.lerp(first[:, None], last[:, None], time).flatten(0, 1)
    return scheme.apply(images.repeat_interleave(FRAMES, dim=0), poses)


def main(steps: int = 60, alpha: float = 0.1) -> dict[str, float]:
    """Train, and return the invariance loss of each layer over the frames of unseen clips."""
    torch.manual_seed(0)
    digits = load_data("digits")
    model = dainv.AllCNNC(width=0.1, batch_norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    clips = dainv.Groups.consecutive(CLIPS, FRAMES)  # the same in every batch, so they are given once
    objective = dainv.InvarianceObjective(model, "layer?", alpha=alpha, groups=clips)

    for step in range(1, steps + 1):
        chosen = torch.randperm(len(digits.train))[:CLIPS]
        frames = film(digits.train.images[chosen] / 255)
        labels = digits.train.labels[chosen].repeat_interleave(FRAMES)
        loss = objective(functional.cross_entropy(model(frames), labels))

        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}  cross-entropy {loss.task:.3f}  frames at layer8 {loss.invariance['layer8']:.3f}")

    model.eval()
    with torch.no_grad():
        model(film(digits.test.images[:CLIPS] / 255))
    unseen = {name: float(value) for name, value in objective.measure().items()}
    print("unseen clips:", "  ".join(f"{name} {value:.3f}" for name, value in unseen.items()))
    return unseen


if __name__ == "__main__":
    main()
