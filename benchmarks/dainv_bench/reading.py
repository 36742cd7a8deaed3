"""Results back from their files, checked before anything is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dainv.errors import UserError
from dainv_bench.captured.results import CapturedResult
from dainv_bench.gpu.check import GpuCheckResult
from dainv_bench.gpu.launches import LaunchesResult
from dainv_bench.kernels.results import KernelsResult
from dainv_bench.overhead.results import OverheadResult
from dainv_bench.resources.results import ResourcesResult
from dainv_bench.results import SCHEMA
from dainv_bench.scaling.results import ScalingResult
from dainv_bench.scores.results import ScoresResult
from dainv_bench.training.results import TrainingResult

FIELDS: dict[str, Any] = {
    "overhead": OverheadResult,
    "kernels": KernelsResult,
    "scores": ScoresResult,
    "scaling": ScalingResult,
    "kernel-resources": ResourcesResult,
    "captured": CapturedResult,
    "training": TrainingResult,
    "launches": LaunchesResult,
    "gpu-check": GpuCheckResult,
}


def read_result(path: Path) -> dict[str, Any]:
    """A result of any suite.

    Raises:
        UserError: no such file, no result, or one that this version does not know how to read.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    return _checked(result, str(path))


def stages_of(result: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """The results that a result contains: those of the suites that a GPU check ran, by stage.

    Args:
        result: of any suite.
        where: what to call it in an error.

    Raises:
        UserError: one of them is not known how to read.
    """
    return {
        name: _checked(stage["result"], f"{where}, stage {name}")
        for name, stage in result.get("stages", {}).items()
        if stage["result"] is not None and "suite" in stage["result"]
    }


def _checked(result: Any, where: str) -> dict[str, Any]:
    if not isinstance(result, dict) or "schema" not in result or "suite" not in result:
        raise UserError(f"{where}: not a result of dainv-bench (no schema and suite)")
    schema, suite = result["schema"], result["suite"]
    if type(schema) is not int or schema != SCHEMA:
        newer = type(schema) is int and schema > SCHEMA
        raise UserError(
            f"{where}: schema {schema!r} is {'newer than' if newer else 'not'} the {SCHEMA} that this version reads"
            + ("; update dainv" if newer else "")
        )
    if suite not in FIELDS:
        raise UserError(f"{where}: there is no suite {suite!r}; there are {', '.join(FIELDS)}")
    missing = [name for name in FIELDS[suite].__annotations__ if name not in result]
    if missing:
        raise UserError(f"{where}: not a whole result of {suite}: {', '.join(missing)} missing")
    return result
