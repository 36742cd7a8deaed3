"""What a suite can be told: fields with their help, from which its command is made, and the checks they share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

import torch

from dainv.devices import resolve_device
from dainv.errors import UserError
from dainv_bench.statistics import MINIMUM_ROUNDS

_T = TypeVar("_T")

# Settings that several suites have, in the same words.
BATCH_SIZE = "B, samples in a batch."
VIEWS = "M, views of each source image."
WIDTH = "Factor on the channels of the network."
BATCH_NORM = "Normalise after every convolution."
ROUNDS = "Times each is timed."


def setting(default: _T, help_text: str) -> _T:
    """A field with a default and the help of its option."""
    made: _T = field(default=default, metadata={"help": help_text})
    return made


@dataclass(frozen=True)
class SuiteSettings:
    """What every suite can be told.

    Attributes:
        QUICK: settings in place of the defaults with ``--quick``.
    """

    rounds: int = setting(20, ROUNDS)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, ...")
    seed: int = setting(0, "Of parameters, inputs and orders.")

    QUICK: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def preset(cls, quick: bool, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What stands in place of the defaults.

        Args:
            quick: whether it is a rehearsal.
            given: what was asked for.
        """
        return cls.QUICK if quick else {}

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        self._check()

    def _check(self) -> None:
        self.at_least(rounds=MINIMUM_ROUNDS)
        if not 0 <= self.seed < 2**62:
            raise UserError(f"--seed: expected 0 to 2^62 - 1, got {self.seed}")

    def resolved(self, device: torch.device, **more: Any) -> dict[str, Any]:
        """All settings with the device that was chosen, and what else has an influence on a time."""
        return {**asdict(self), "device": str(device), **more}

    def timed_device(self) -> torch.device:
        """The device.

        Raises:
            UserError: there is none such here, or none whose times can be taken.
        """
        device = resolve_device(self.device)
        if device.type not in ("cpu", "cuda"):
            raise UserError(f"--device {self.device}: times can be taken on cpu and cuda")
        return device

    def at_least(self, **limits: int) -> None:
        """Reject settings below their limits.

        Raises:
            UserError: there is one.
        """
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise UserError(f"{_option(name)}: expected at least {least}, got {getattr(self, name)}")

    def positive(self, **meanings: str) -> None:
        """Reject settings that are not finite positive numbers.

        Args:
            meanings: what each is, such as ``width="factor"``.

        Raises:
            UserError: there is one.
        """
        for name, meaning in meanings.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"{_option(name)}: expected a positive {meaning}, got {value}")

    def known(self, name: str, noun: str, there_are: Iterable[str]) -> None:
        """Reject names of what there is not.

        Args:
            name: of the setting, which holds names.
            noun: what one of them is.
            there_are: those that there are.

        Raises:
            UserError: there is another.
        """
        there_are = list(there_are)
        for one in getattr(self, name):
            if one not in there_are:
                raise UserError(f"{_option(name)}: there is no {noun} {one!r}; there are {', '.join(there_are)}")


@dataclass(frozen=True)
class StepSettings(SuiteSettings):
    """What every suite about training steps can be told."""

    batch_size: int = setting(128, BATCH_SIZE)
    views: int = setting(8, VIEWS)
    width: float = setting(1.0, WIDTH)
    batch_norm: bool = setting(False, BATCH_NORM)

    def _check(self) -> None:
        super()._check()
        if self.views < 2:
            raise UserError(f"--views: expected at least 2, got {self.views}: one view has none to be compared with")
        if self.batch_size < self.views or self.batch_size % self.views:
            raise UserError(f"--batch-size {self.batch_size} is not a multiple of --views {self.views}")
        self.positive(width="factor")

    @property
    def n_images(self) -> int:
        """K, source images in a batch."""
        return self.batch_size // self.views


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
