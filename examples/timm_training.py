"""timm's training pieces: its models, RandAugment, optimizers, schedules and moving averages, with the objective.

Views come from timm's own transformations instead of ``dainv.augmentation``. Leave Mixup and CutMix out: a mixture of
two images belongs to no group. timm's ``RepeatAugSampler`` deals the views of one image to different processes, where
no process could compare them; a data set that returns all views of an image keeps them together.
Run it with ``python examples/timm_training.py``; it needs ``pip install timm``.
"""

from __future__ import annotations

import timm
import torch
from timm.data import create_transform
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3, random_seed
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_pil_image

import dainv
from dainv.data import ImageSplit, load_data

IMAGES, VIEWS = 8, 4


class Views(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """All views of an image as one item: ``(M, C, H, W)`` views, M labels, M times the image's number."""

    def __init__(self, split: ImageSplit) -> None:
        self.split = split
        self.transform = create_transform(32, is_training=True, auto_augment="rand-m9-mstd0.5", hflip=0.0)

    def __len__(self) -> int:
        """Source images."""
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """M views, each transformed for itself."""
        image = to_pil_image(self.split.images[index])
        views = torch.stack([self.transform(image) for _ in range(VIEWS)])
        return views, self.split.labels[index].expand(VIEWS), torch.full((VIEWS,), index)


def main(steps: int = 60, alpha: float = 0.1) -> dict[str, float]:
    """Train, and return the invariance loss of each stage on the last batch."""
    random_seed(0)  # of Python and NumPy too, which RandAugment draws from
    loader = DataLoader(Views(load_data("digits").train), IMAGES, shuffle=True, drop_last=True)
    model = timm.create_model("test_resnet", num_classes=10)
    objective = dainv.InvarianceObjective(model, "layer?", alpha=alpha)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=2e-3, weight_decay=0.05)
    schedule = CosineLRScheduler(optimizer, t_initial=steps, warmup_t=steps // 10, t_in_epochs=False)
    average = ModelEmaV3(model, decay=0.99)  # a copy; it carries no listeners that training would need
    criterion = LabelSmoothingCrossEntropy(0.1)

    batches = iter(loader)
    for step in range(1, steps + 1):
        views, labels, source = (part.flatten(0, 1) for part in next(batches))
        loss = objective(criterion(model(views), labels), source)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        schedule.step_update(step)
        average.update(model)
        if step % 20 == 0:
            layers = "  ".join(f"{name} {value:.3f}" for name, value in loss.invariance.items())
            print(f"step {step}  task {loss.task:.3f}  invariance loss: {layers}")
    return {name: float(value.detach()) for name, value in loss.invariance.items()}


if __name__ == "__main__":
    main()
