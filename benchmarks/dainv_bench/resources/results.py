"""What ``dainv-bench resources`` writes, and where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from dainv_bench.resources.compilation import Compiled
from dainv_bench.results import FOLDER, Head

SUITE = "kernel-resources"


class KernelResources(TypedDict):
    """A kernel as one or several variants launch it."""

    kernel: str
    variants: list[str]
    constants: dict[str, Any]
    warps: int
    features: list[str]  # the arguments with B × D elements
    compiled: dict[str, Compiled]  # by target


class ResourcesResult(Head):
    """What ``dainv-bench resources`` writes."""

    variants: dict[str, dict[str, Any]]
    kernels: list[KernelResources]


def load_bytes(kernel: KernelResources, target: str) -> int | None:
    """Bytes that a load of features has, the fewest of all arguments of that size; None for a kernel that reads none.

    Of each argument the widest load counts: the first row, which is read once more on its own, may go in smaller ones.
    """
    loads = kernel["compiled"][target]["argument_loads"]
    return min((max(loads[name]) for name in kernel["features"] if name in loads), default=None)


def default_resources_path(result: ResourcesResult) -> Path:
    """``benchmarks/results/kernel-resources--triton-VERSION.json``: no machine has an influence on what is in it."""
    return FOLDER / f"{SUITE}--triton-{triton_of(result)}.json"


def committed_results(folder: Path = FOLDER) -> list[ResourcesResult]:
    """All results in the folder, that of the newest Triton first."""
    return newest_first([json.loads(path.read_text()) for path in folder.glob(f"{SUITE}--*.json")])


def newest_first(results: Iterable[ResourcesResult]) -> list[ResourcesResult]:
    """By the version of Triton."""
    return sorted(
        results, key=lambda result: [int(part) for part in re.findall(r"\d+", triton_of(result))], reverse=True
    )


def triton_of(result: ResourcesResult) -> str:
    """The version of Triton that compiled it."""
    version: str = result["environment"]["libraries"]["triton"]
    return version
