"""What changes at which epoch. Schedules are made for 350 epochs and scale along with --epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dainv.errors import UserError

AlphaSchedule = tuple[tuple[int, float], ...]  # (epoch, factor), in order


def begins(milestone: int, n_epochs: int, of: int) -> int:
    """The epoch, counted from 0, of a run of ``n_epochs`` at which a milestone of a run of ``of`` epochs comes."""
    return -(-milestone * n_epochs // of)


def parse_alpha_schedule(text: str, alpha: float, of: int) -> AlphaSchedule:
    """The epochs and factors of ``"EPOCH:FACTOR,EPOCH:FACTOR"``.

    Args:
        text: what was typed; empty for no schedule.
        alpha: what the first factor multiplies.
        of: the number of epochs that the schedule is made for.

    Raises:
        UserError: not of this form, epochs out of order or out of range, or factors that take alpha out of [0, 1].
    """
    schedule = []
    for part in text.split(",") if text else []:
        epoch, _, factor = part.partition(":")
        try:
            schedule.append((int(epoch), float(factor)))
        except ValueError:
            raise UserError(f"--alpha-schedule: expected EPOCH:FACTOR,EPOCH:FACTOR, got {part!r}") from None
    epochs = [epoch for epoch, _ in schedule]
    if epochs != sorted(set(epochs)) or any(not 0 <= epoch < of for epoch in epochs):
        raise UserError(f"--alpha-schedule: expected growing epochs from 0 to {of - 1}, got {text!r}")
    for place, (start, by) in enumerate(schedule, start=1):
        reached = multiplied(alpha, [factor for _, factor in schedule[:place]])
        if by < 0 or not 0 <= reached <= 1:
            raise UserError(f"--alpha-schedule: alpha would become {reached:g} at epoch {start}, expected 0 to 1")
    return tuple(schedule)


def multiplied(alpha: float, factors: Sequence[float]) -> float:
    """Alpha times all factors, to twelve digits: 0.1 × 3 is 0.3."""
    return float(f"{alpha * math.prod(factors):.12g}") if factors else alpha
