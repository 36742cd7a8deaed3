"""Numbers that stop a run: what is not finite, and where it was first."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dainv.errors import UserError
from dainv.training.losses import LAYERS

_KEPT = "the last good checkpoint is kept (a smaller --learning-rate may help)"


def check_losses(rows: Tensor, layers: Sequence[str], first_step: int) -> None:
    """Stop at the first loss that is not a number.

    Args:
        rows: of the table of losses, one a step.
        layers: names of the layers, in the order of the columns.
        first_step: the step of the first row, counted from 0.

    Raises:
        UserError: names the step and the first layer.
    """
    finite = rows.isfinite()
    if bool(finite.all()):
        return
    offset = int((~finite).any(1).nonzero()[0])
    bad = [name for name, good in zip(layers, finite[offset, LAYERS:].tolist(), strict=True) if not good]
    what = f"invariance loss of {bad[0]}" if bad else "task loss"
    raise UserError(f"step {first_step + offset + 1}: the {what} is not a finite number; {_KEPT}")


def check_weights(network: nn.Module, step: int) -> None:
    """Keep an update that ruined the network out of the checkpoints; the losses show it only a step later.

    Args:
        network: what was trained.
        step: the latest update, counted from 1.

    Raises:
        UserError: names the step and the first parameter.
    """
    for name, value in network.state_dict().items():
        if not bool(value.isfinite().all()):
            raise UserError(f"step {step}: the update made {name} infinite or not a number; {_KEPT}")
