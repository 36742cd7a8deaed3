"""PyTorch Lightning: the objective is made with the module and called in ``training_step``.

Run it with ``python examples/lightning_module.py``; it needs ``pip install lightning``.
"""

from __future__ import annotations

import lightning
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import dainv
from dainv.data import ImageSplit, load_data

IMAGES, VIEWS = 8, 8


class InvariantClassifier(lightning.LightningModule):
    """All-CNN-C trained by Eq. 4; everything else is Lightning's."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.model = dainv.AllCNNC(width=0.1, batch_norm=True)
        self.objective = dainv.InvarianceObjective(self.model, "layer?", alpha=alpha)
        self.augment = dainv.augmentation("heavier")

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """The loader gives every image once; its views are made here, on the device of the images."""
        images, labels = batch
        source = torch.arange(len(images), device=images.device).repeat_interleave(VIEWS)
        logits = self.model(self.augment(images[source]))
        loss = self.objective(functional.cross_entropy(logits, labels[source]), source)
        self.log("task", loss.task.detach())
        self.log_dict({f"invariance/{name}": value.detach() for name, value in loss.invariance.items()})
        return loss.total

    def validation_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> None:
        """Images as they are: the objective has no part in it."""
        images, labels = batch
        self.log("accuracy", (self.model(images).argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, as in the paper."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, nesterov=True)


def loader(split: ImageSplit, batch_size: int, shuffle: bool) -> DataLoader:
    """Images in [0, 1] and labels."""
    return DataLoader(TensorDataset(split.images / 255, split.labels), batch_size, shuffle, drop_last=shuffle)


def main(steps: int = 60, alpha: float = 0.1) -> dict[str, float]:
    """Train, and return the invariance loss of each layer on the last batch."""
    lightning.seed_everything(0, verbose=False)
    digits = load_data("digits")
    module = InvariantClassifier(alpha)
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="auto", devices=1, logger=False, enable_checkpointing=False, limit_val_batches=1
    )
    trainer.fit(module, loader(digits.train, IMAGES, shuffle=True), loader(digits.test, 360, shuffle=False))
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
    return {
        name.removeprefix("invariance/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("invariance/")
    }


if __name__ == "__main__":
    main()
