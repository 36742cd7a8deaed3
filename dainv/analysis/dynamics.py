"""How the invariance losses and the accuracy moved during training (Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dainv.analysis.loss_phases import Phase, phases
from dainv.errors import UserError
from dainv.runs import RunDirectory


@dataclass(frozen=True)
class Dynamics:
    """Invariance losses (Eq. 3) by epoch and layer, and accuracies by epoch.

    Attributes:
        layers: L names.
        epochs: ``(E,)`` int64, the first 0, before any update.
        train: ``(E, L)`` means over the training batches of each epoch; for epoch 0 the first batch alone.
        control: ``(E, L)`` losses of the control batch after each epoch, the same images and views every time.
        train_accuracy: ``(E,)`` share of right answers over the views of the epoch's training batches.
        test_accuracy: ``(E,)`` share of right answers on the test images as they are, after the epoch.
    """

    layers: tuple[str, ...]
    epochs: np.ndarray
    train: np.ndarray
    control: np.ndarray
    train_accuracy: np.ndarray
    test_accuracy: np.ndarray

    @property
    def first_mean(self) -> int:
        """Index of the first mean over an epoch's batches; epoch 0 is one batch, and counts only where it is alone."""
        return int(self.epochs[0] == 0 and len(self.epochs) > 1)

    @cached_property
    def train_phases(self) -> dict[str, tuple[Phase, ...]]:
        """Layer -> phases of its loss on training batches, from the first mean of an epoch on."""
        first = self.first_mean
        return {
            layer: tuple(
                Phase(kind, start + first, end + first) for kind, start, end in phases(self.train[first:, column])
            )
            for column, layer in enumerate(self.layers)
        }

    @cached_property
    def control_phases(self) -> dict[str, tuple[Phase, ...]]:
        """Layer -> phases of its loss on the control batch."""
        return {layer: phases(self.control[:, column]) for column, layer in enumerate(self.layers)}

    def turning_epochs(self, layer: str) -> list[int]:
        """Epochs at which a layer's loss on training batches turned."""
        return [int(self.epochs[phase.start]) for phase in self.train_phases[layer][1:]]


class Band(NamedTuple):
    """Mean and range of the dynamics of several runs, over the epochs that all of them have."""

    mean: Dynamics
    low: Dynamics
    high: Dynamics


def read_dynamics(run: RunDirectory, layers: Sequence[str]) -> Dynamics:
    """The losses and accuracies in a run's metrics; of an epoch recorded twice, the last record counts.

    Raises:
        UserError: there are none, or a record lacks something.
    """
    records = run.metrics()
    if not records:
        raise UserError(f"{run.path}: no metrics; has the training begun?")
    try:
        by_epoch = {record["epoch"]: record for record in records}
        records = [by_epoch[epoch] for epoch in sorted(by_epoch)]
        epochs = np.array([record["epoch"] for record in records], dtype=np.int64)
        train, control = (
            np.array(
                [[record[part]["invariance"][layer] for layer in layers] for record in records], dtype=np.float64
            ).reshape(len(records), len(layers))
            for part in ("train", "control")
        )
        train_accuracy, test_accuracy = (
            np.array([record[part]["accuracy"] for record in records], dtype=np.float64) for part in ("train", "test")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.path}: a record of its metrics lacks {error}; expected those of `dainv train`") from None
    return Dynamics(tuple(layers), epochs, train, control, train_accuracy, test_accuracy)


def band(runs: Sequence[Dynamics]) -> Band:
    """Mean, minimum and maximum over runs with the same layers, at each epoch that all of them have."""
    epochs = runs[0].epochs
    for run in runs[1:]:
        epochs = np.intersect1d(epochs, run.epochs)

    def over_runs(reduce: Callable[..., np.ndarray]) -> Dynamics:
        quantities = ("train", "control", "train_accuracy", "test_accuracy")
        curves = (
            reduce([getattr(run, quantity)[np.isin(run.epochs, epochs)] for run in runs], axis=0)
            for quantity in quantities
        )
        return Dynamics(runs[0].layers, epochs, *curves)

    return Band(over_runs(np.mean), over_runs(np.min), over_runs(np.max))
