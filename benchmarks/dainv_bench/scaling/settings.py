"""What ``dainv-bench scaling`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import click

from dainv.errors import UserError
from dainv_bench.scaling.axes import AXES, OBJECTIVE_AXES, RANKS_AXIS, SCORES_AXIS, Point
from dainv_bench.scaling.ranks import part_of
from dainv_bench.settings import BATCH_SIZE, ROUNDS, VIEWS, SuiteSettings, setting

_PLAUSIBLE = 2**24  # a value beyond it is a slip


def _read_values(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = {}
    for text in given:
        axis, _, numbers = text.partition("=")
        try:
            found[axis.strip()] = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            raise click.BadParameter(f"expected AXIS=NUMBER,NUMBER,..., got {text!r}") from None
    return found


_VALUES = {
    "help": "Of an axis, in place of its own; may be repeated.",
    "option": {"multiple": True, "callback": _read_values, "metavar": "AXIS=N,N,..."},
}


@dataclass(frozen=True)
class ScalingSettings(SuiteSettings):
    """Settings of ``dainv-bench scaling``."""

    axes: tuple[str, ...] = setting(tuple(AXES), "What to vary, one at a time.")
    values: Mapping[str, tuple[int, ...]] = field(default_factory=dict, metadata=_VALUES)
    batch_size: int = setting(128, BATCH_SIZE)
    views: int = setting(8, VIEWS)
    features: int = setting(12288, "D, features of a sample.")
    layers: int = setting(1, "L, layers.")
    width: float = setting(0.25, "Factor on the channels of the network that is scored.")
    score_batch_size: int = setting(128, "Images at a time, where N is varied.")
    repeats: int = setting(5, "Transformations of each image, where N is varied.")
    rounds: int = setting(7, ROUNDS)

    QUICK: ClassVar = {"rounds": 3, "values": {name: axis.quick for name, axis in AXES.items()}}

    def _check(self) -> None:
        super()._check()
        self.known("axes", "axis", AXES)
        self.known("values", "axis", AXES)
        for name in self.values:
            if not all(1 <= value <= _PLAUSIBLE for value in self.values_of(name)):
                raise UserError(f"--values: expected {name} from 1 to {_PLAUSIBLE}, got {self.values[name]}")
        for axis in (axis for axis in OBJECTIVE_AXES if axis in self.axes):
            for value in self.values_of(axis):
                self.point(axis, value)
        for ranks in self.values_of(RANKS_AXIS) if RANKS_AXIS in self.axes else ():
            part_of(self.base, ranks)
        if SCORES_AXIS in self.axes and min(self.values_of(SCORES_AXIS)) < 2:
            raise UserError(f"--values: expected N of at least 2, got {self.values_of(SCORES_AXIS)}")
        self.at_least(score_batch_size=1, repeats=1)
        self.positive(width="factor")

    def values_of(self, axis: str) -> tuple[int, ...]:
        """What the axis is measured at, ascending."""
        return tuple(sorted(set(self.values.get(axis) or AXES[axis].values)))

    @property
    def base(self) -> Point:
        """The batch that B, M, D and L are varied from."""
        return Point(self.batch_size, self.views, self.features, self.layers)

    def point(self, axis: str, value: int) -> Point:
        """The batch at a value of B, M, D or L."""
        return replace(self.base, **{axis: value}).checked(f"--axes {axis}")
