"""What ``dainv-bench scores`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dainv.errors import UserError
from dainv_bench.scores.arms import ARMS
from dainv_bench.settings import BATCH_NORM, ROUNDS, WIDTH, SuiteSettings, setting


@dataclass(frozen=True)
class ScoresSettings(SuiteSettings):
    """Settings of ``dainv-bench scores``."""

    sizes: tuple[int, ...] = setting((128, 256, 512), "N, images scored.")
    repeats: int = setting(5, "Transformations of each image.")
    batch_size: int = setting(128, "Images at a time.")
    width: float = setting(1.0, WIDTH)
    batch_norm: bool = setting(False, BATCH_NORM)
    rounds: int = setting(5, ROUNDS)
    arms: tuple[str, ...] = setting(tuple(ARMS), "What to compare with the forward passes.")
    memory_limit: float = setting(4.0, "GiB; an arm known to need more is not run.")
    limit: float = setting(1.25, "Times the forward passes that streaming may cost.")

    QUICK: ClassVar = {"sizes": (16, 32), "rounds": 3}

    def _check(self) -> None:
        super()._check()
        if not self.sizes or min(self.sizes) < 2:
            raise UserError(f"--sizes: expected numbers of at least 2 images, got {self.sizes}")
        self.at_least(repeats=1, batch_size=1)
        self.positive(width="factor", memory_limit="number of GiB", limit="ratio")
        self.known("arms", "arm", ARMS)
