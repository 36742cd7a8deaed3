"""Class-wise invariance: the groups are class labels instead of source images, and both kinds at once.

Views of one image shall be represented alike (alpha), and so shall, in the deep layers, images of one class (beta).
Run it with ``python examples/class_wise.py``.
"""

from __future__ import annotations

import torch
from torch.nn import functional

import dainv
from dainv.data import load_data

IMAGES, VIEWS = 16, 4


def main(steps: int = 60, alpha: float = 0.1, beta: float = 0.1) -> dict[str, float]:
    """Train, and return the class-wise loss of each layer on the last batch."""
    torch.manual_seed(0)
    digits = load_data("digits").train
    augment = dainv.augmentation("light")
    model = dainv.AllCNNC(width=0.1, batch_norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    same_image = dainv.InvarianceObjective(model, "layer?", alpha=alpha)
    same_class = dainv.InvarianceObjective(model, "layer[789]", alpha=beta)  # classes are for the deep layers

    for step in range(1, steps + 1):
        source = torch.randperm(len(digits))[:IMAGES].repeat_interleave(VIEWS)
        labels = digits.labels[source]
        task_loss = functional.cross_entropy(model(augment(digits.images[source] / 255)), labels)
        images = same_image(task_loss, source)
        classes = same_class(task_loss, labels)
        # Each total is (1 - its share) * task + its losses, so this is (1 - alpha - beta) * task + the losses of both.
        total = images.total + classes.total - task_loss

        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if step % 20 == 0:
            print(
                f"step {step}  cross-entropy {task_loss:.3f}  layer8: "
                f"same image {images.invariance['layer8']:.3f}, same class {classes.invariance['layer8']:.3f}"
            )
    return {name: float(value.detach()) for name, value in classes.invariance.items()}


if __name__ == "__main__":
    main()
