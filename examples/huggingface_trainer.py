"""Hugging Face Trainer: the collator makes the views, ``compute_loss`` adds the objective to the model's own loss.

The model is a Vision Transformer of two layers with random weights, so that nothing is downloaded; a pretrained one is
used in the same way. Run it with ``python examples/huggingface_trainer.py``; it needs
``pip install transformers accelerate``.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import StackDataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import dainv
from dainv.data import load_data

IMAGES, VIEWS = 8, 8


def collate(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """K images to K * M views, and which image each view shows."""
    source = torch.arange(len(examples)).repeat_interleave(VIEWS)
    images = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.stack([example["labels"] for example in examples])
    return {
        "pixel_values": dainv.augmentation("heavier")(images[source]),
        "labels": labels[source],
        "source": source,
    }


class InvarianceTrainer(Trainer):
    """A Trainer whose loss is Eq. 4."""

    def __init__(self, *args: Any, objective: dainv.InvarianceObjective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Means over each batch, which the Trainer divides by the number of batches whose gradients it accumulates. Else
        # it would have the model do that to the cross-entropy, and nobody would to the invariance losses.
        self.model_accepts_loss_kwargs = False
        self.objective = objective
        self.latest: dict[str, float] = {}

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """The model's loss while evaluating; with the invariance losses while training."""
        source = inputs.pop("source")
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            loss, _, invariance = self.objective(loss, source)
            self.latest = {name: float(value.detach()) for name, value in invariance.items()}
        return (loss, outputs) if return_outputs else loss


def main(steps: int = 60, alpha: float = 0.1) -> dict[str, float]:
    """Train, and return the invariance loss of each layer on the last batch."""
    torch.manual_seed(0)
    digits = load_data("digits").train
    config = ViTConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        num_labels=10,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    blocks = [name for name, module in model.named_modules() if type(module).__name__ == "ViTLayer"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=IMAGES,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            remove_unused_columns=False,  # "source" is for the objective, not for the model
            logging_steps=20,
            save_strategy="no",
            report_to="none",
            seed=0,
        )
        trainer = InvarianceTrainer(
            model=model,
            args=arguments,
            train_dataset=StackDataset(pixel_values=digits.images / 255, labels=digits.labels),
            data_collator=collate,
            objective=dainv.InvarianceObjective(model, blocks, alpha=alpha),
        )
        trainer.train()
    print({name: round(value, 3) for name, value in trainer.latest.items()})
    return trainer.latest


if __name__ == "__main__":
    main()
