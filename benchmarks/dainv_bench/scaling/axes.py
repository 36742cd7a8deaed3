"""What is varied, one at a time, and what the rest stays at."""

from __future__ import annotations

from dataclasses import dataclass

from dainv.errors import UserError

# Symbols as everywhere: B samples in a batch, M views of an image, D features of a sample, L layers, N images scored.
OBJECTIVE_AXES = ("B", "M", "D", "L")
SCORES_AXIS, RANKS_AXIS = "N", "ranks"


@dataclass(frozen=True)
class Axis:
    """One thing that is varied.

    Attributes:
        meaning: what its symbol stands for.
        values: of a measurement.
        quick: of a rehearsal.
    """

    meaning: str
    values: tuple[int, ...]
    quick: tuple[int, ...]


AXES = {
    "B": Axis("samples in a batch", (32, 64, 128, 256, 512, 1024), (32, 64, 128)),
    "M": Axis("views of an image", (2, 4, 8, 16, 32, 64), (2, 8, 32)),
    "D": Axis("features of a sample", (3072, 6144, 12288, 24576, 49152, 98304), (3072, 6144, 12288)),
    "L": Axis("layers", (1, 2, 4, 8, 16), (1, 2, 4)),
    SCORES_AXIS: Axis("images scored", (128, 256, 512, 1024, 2048), (64, 128, 256)),
    RANKS_AXIS: Axis("processes that share the batch", (1, 2, 4), (1, 2)),
}


@dataclass(frozen=True)
class Point:
    """One training batch's shape: B samples of M views each, L layers of D features."""

    B: int
    M: int
    D: int
    L: int

    def checked(self, axis: str) -> Point:
        """Itself.

        Raises:
            UserError: a batch that holds no two whole groups.
        """
        if self.M < 2 or self.B % self.M or self.B < 2 * self.M or min(self.D, self.L) < 1:
            raise UserError(
                f"{axis}: B = {self.B}, M = {self.M}, D = {self.D}, L = {self.L} is no batch of two or more images "
                "with as many views each"
            )
        return self
