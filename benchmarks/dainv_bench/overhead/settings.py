"""What ``dainv-bench overhead`` can be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dainv.errors import UserError
from dainv_bench.overhead.arms import ARMS
from dainv_bench.settings import BATCH_NORM, BATCH_SIZE, VIEWS, WIDTH, SuiteSettings, setting

# Whole epochs of all arms would take half an hour on two cores, so the peers are left out; and for a rehearsal of them
# most of the network is.
_EPOCHS: dict[str, Any] = {"rounds": 3, "warmup": 1, "arms": ("baseline", "published", "ours", "ours-relu")}
_QUICK: dict[str, Any] = {
    "rounds": 3,
    "warmup": 1,
    "arms": ("baseline", "published", "closed-form", "ours", "ours-relu"),
}
_QUICK_EPOCHS: dict[str, Any] = {**_EPOCHS, "width": 0.25}


@dataclass(frozen=True)
class OverheadSettings(SuiteSettings):
    """Settings of ``dainv-bench overhead``."""

    batch_size: int = setting(128, BATCH_SIZE)
    views: int = setting(8, VIEWS)
    width: float = setting(1.0, WIDTH)
    batch_norm: bool = setting(False, BATCH_NORM)
    warmup: int = setting(3, "Steps of each arm before it is timed.")
    arms: tuple[str, ...] = setting(tuple(ARMS), "What to compare with the baseline.")
    limit: float = setting(10.0, "Percent of a step the objective may cost; 10 is the paper's.")
    epoch: bool = setting(False, "Time whole epochs, batches included, instead of steps: fewer arms and rounds.")
    data: str = setting("digits", "Of the epochs: as for `dainv train`.")

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        super().__post_init__()
        if self.views < 2:
            raise UserError(f"--views: expected at least 2, got {self.views}: one view has none to be compared with")
        if self.batch_size < self.views or self.batch_size % self.views:
            raise UserError(f"--batch-size {self.batch_size} is not a multiple of --views {self.views}")
        self.at_least(warmup=1)
        self.positive(width="factor")
        self.known("arms", "arm", ARMS)
        if not math.isfinite(self.limit):
            raise UserError(f"--limit: expected a percentage, got {self.limit}")

    @property
    def n_images(self) -> int:
        """K, source images in a batch."""
        return self.batch_size // self.views


def preset(quick: bool, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands in place of the defaults."""
    if given.get("epoch"):
        return _QUICK_EPOCHS if quick else _EPOCHS
    return _QUICK if quick else {}
