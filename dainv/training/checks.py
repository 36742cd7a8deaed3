"""What stops a run: data with nothing to learn from, and numbers that are not finite, by where they were first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dainv.data import ImageData
from dainv.errors import UserError
from dainv.training.losses import LAYERS

_ADVICE = "a smaller --learning-rate may help"


class Diverged(UserError):
    """A number that is not finite, by where it was first."""


def check_classes(data: ImageData) -> None:
    """A classifier needs something to tell apart.

    Raises:
        UserError: all training images are of one class.
    """
    labels = data.train.labels
    if bool((labels == labels[0]).all()):
        only = data.classes[int(labels[0])]
        raise UserError(
            f"{data.name}: all {len(labels)} training images are of one class ({only}); expected two at least"
        )


def check_losses(rows: Tensor, layers: Sequence[str], first_step: int) -> None:
    """Stop at the first loss that is not a number.

    Args:
        rows: of the table of losses, one a step.
        layers: names of the layers, in the order of the columns.
        first_step: the step of the first row, counted from 0.

    Raises:
        Diverged: names the step and the first layer.
    """
    finite = rows.isfinite()
    if bool(finite.all()):
        return
    offset = int((~finite).any(1).nonzero()[0])
    bad = [name for name, good in zip(layers, finite[offset, LAYERS:].tolist(), strict=True) if not good]
    what = f"invariance loss of {bad[0]}" if bad else "task loss"
    raise Diverged(f"step {first_step + offset + 1}: the {what} is not a finite number; {_ADVICE}")


def check_weights(network: nn.Module, step: int) -> None:
    """Keep an update that ruined the network out of the checkpoints; the losses show it only a step later.

    Args:
        network: what was trained.
        step: the latest update, counted from 1.

    Raises:
        Diverged: names the step and the first parameter.
    """
    state = network.state_dict()
    finite = torch.stack([value.isfinite().all() for value in state.values()]).tolist()  # waits for the device once
    for name, good in zip(state, finite, strict=True):
        if not good:
            raise Diverged(f"step {step}: the update made {name} infinite or not a number; {_ADVICE}")


def check_record(record: dict[str, Any]) -> None:
    """Networks with finite weights may overflow in evaluation, and JSON knows no number for that.

    Args:
        record: of an epoch, for metrics.jsonl.

    Raises:
        Diverged: names the epoch and the first loss that is not a number.
    """
    losses = {
        "training loss": record["train"]["loss"],
        "loss on the test images": record["test"]["loss"],
        **{f"invariance loss of {layer}": loss for layer, loss in record["control"]["invariance"].items()},
    }
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise Diverged(f"epoch {record['epoch']}: the {name} is not a finite number; {_ADVICE}")
