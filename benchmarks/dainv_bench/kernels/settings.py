"""What ``dainv-bench kernels`` can be told, and what it then measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch

from dainv.errors import UserError
from dainv_bench.kernels.cases import DTYPES, Workload, workloads
from dainv_bench.kernels.methods import Method, methods
from dainv_bench.settings import BATCH_SIZE, VIEWS, SuiteSettings, setting


@dataclass(frozen=True)
class KernelSettings(SuiteSettings):
    """Settings of ``dainv-bench kernels``."""

    workloads: tuple[str, ...] = setting(("*",), "Names or patterns of what to time.")
    methods: tuple[str, ...] = setting(("*",), "Names or patterns of who is timed.")
    dtype: tuple[str, ...] = setting(("float32", "bfloat16"), "Of the features.")
    batch_size: int = setting(128, BATCH_SIZE)
    views: int = setting(8, VIEWS)
    rounds: int = setting(20, "Times each is timed, at most.")
    seconds: float = setting(520.0, "For all of it: each workload may have an equal part of what is left, or 3 rounds.")

    QUICK: ClassVar = {"rounds": 5, "dtype": ("float32",), "workloads": ("layer6-8", "layer9")}

    @classmethod
    def preset(cls, quick: bool, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """A rehearsal compiles nothing; see :meth:`SuiteSettings.preset`."""
        return {**cls.QUICK, "methods": tuple(name for name in methods() if name != "compiled")} if quick else {}

    def _check(self) -> None:
        super()._check()
        if self.views < 2 or self.batch_size < 2 * self.views or self.batch_size % (2 * self.views):
            raise UserError(
                f"--batch-size {self.batch_size}: expected an even multiple of --views {self.views}, which is 2 or more"
            )
        self.positive(seconds="number")
        self.known("dtype", "dtype", DTYPES)
        _refuse_unmatched("--workloads", self.workloads, [workload.name for workload in workloads(torch.float32)])
        _refuse_unmatched("--methods", self.methods, list(methods()))

    def chosen_methods(self) -> list[Method]:
        """Those that match."""
        return [method for name, method in methods().items() if _matches(name, self.methods)]

    def chosen_workloads(self, device: torch.device) -> list[Workload]:
        """Those that match, in the order of the patterns; each in all dtypes, one after the other."""
        by_dtype = [workloads(DTYPES[name], self.batch_size, self.views) for name in self.dtype]
        matching = [
            one
            for pattern in self.workloads
            for of_each_dtype in zip(*by_dtype, strict=True)
            for one in of_each_dtype
            # A gigabyte is for a GPU, unless it is asked for by name.
            if _matches(one.name, (pattern,))
            and (one.name != "gigabyte" or device.type == "cuda" or pattern == one.name)
        ]
        return list(dict.fromkeys(matching))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _refuse_unmatched(option: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(_matches(name, (pattern,)) for name in names):
            raise UserError(f"{option}: nothing is called {pattern!r}; there are {', '.join(names)}")
