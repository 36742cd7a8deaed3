"""Which strengths of which transformations a curve is made of."""

from __future__ import annotations

from dataclasses import dataclass

from dainv.augment import TRANSFORMATIONS, Augmentation, at_strength


@dataclass(frozen=True)
class Axis:
    """Strengths of a transformation.

    Attributes:
        transformation: one of :data:`~dainv.augment.TRANSFORMATIONS`.
        unit: what a strength is.
        strengths: ascending.
        identity: the strength that changes nothing, and scores 1 by definition.
    """

    transformation: str
    unit: str
    strengths: tuple[float, ...]
    identity: float = 0.0

    def augmentations(self, interpolation: str) -> dict[str, Augmentation]:
        """Name -> transformation, one a strength."""
        made = [at_strength(self.transformation, strength, interpolation) for strength in self.strengths]
        return {one.name: one for one in made}


AXES = (
    Axis("rotation", "degrees, either way", (5, 11.25, 22.5, 45, 90, 180)),
    Axis("shift", "fraction of the side, either way", (0.025, 0.05, 0.1, 0.2, 0.4)),
    Axis("zoom", "factor on the side of the window", (0.5, 0.7, 0.85, 1.15, 1.3, 1.5), identity=1),
    Axis("shear", "degrees, either way", (4, 8.6, 17, 34)),
    Axis("brightness", "added to pixels in [0, 1]", (-0.5, -0.25, -0.125, 0.125, 0.25, 0.5)),
    Axis("contrast", "factor on deviations from the mean", (0.25, 0.5, 0.75, 1.25, 1.5, 2), identity=1),
)  # a flip has no strength; all reach beyond the ranges of *heavier*
assert {axis.transformation for axis in AXES} == set(TRANSFORMATIONS) - {"flip"}
