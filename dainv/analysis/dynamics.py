"""How the invariance losses moved during training (Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dainv.errors import UserError
from dainv.runs import RunDirectory


@dataclass(frozen=True)
class Dynamics:
    """Invariance losses (Eq. 3) by epoch and layer.

    Attributes:
        layers: L names.
        epochs: ``(E,)`` int64, the first 0, before any update.
        train: ``(E, L)`` means over the training batches of each epoch; for epoch 0 the first batch alone.
        control: ``(E, L)`` losses of the control batch after each epoch, the same images and views every time.
    """

    layers: tuple[str, ...]
    epochs: np.ndarray
    train: np.ndarray
    control: np.ndarray


def read_dynamics(run: RunDirectory, layers: Sequence[str]) -> Dynamics:
    """The losses in a run's metrics.

    Raises:
        UserError: there are none, or a record lacks something.
    """
    records = run.metrics()
    if not records:
        raise UserError(f"{run.path}: no metrics; has the training begun?")
    try:
        epochs = np.array([record["epoch"] for record in records], dtype=np.int64)
        train, control = (
            np.array(
                [[record[part]["invariance"][layer] for layer in layers] for record in records], dtype=np.float64
            ).reshape(len(records), len(layers))
            for part in ("train", "control")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.path}: a record of its metrics lacks {error}; expected those of `dainv train`") from None
    return Dynamics(tuple(layers), epochs, train, control)
