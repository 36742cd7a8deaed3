"""What a GPU check runs: one process after the other, correctness before speed, what matters most before the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


def read_json(path: Path) -> dict[str, Any]:
    """What a suite wrote."""
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def read_junit(path: Path) -> dict[str, Any]:
    """Counts of pytest's XML report, and the names of what failed."""
    cases = list(ElementTree.parse(path).iter("testcase"))

    def having(*tags: str) -> list[str]:
        return [f"{c.get('classname')}::{c.get('name')}" for c in cases if any(c.find(t) is not None for t in tags)]

    failed, skipped = having("failure", "error"), having("skipped")
    return {
        "passed": len(cases) - len(set(failed) | set(skipped)),
        "failed": len(set(failed)),
        "skipped": len(skipped),
        "failures": sorted(set(failed)),
        "seconds": sum(float(case.get("time") or 0) for case in cases),
    }


@dataclass(frozen=True)
class Stage:
    """One process.

    Attributes:
        name: of the stage.
        arguments: of ``python``, as in a shell; ``{output}`` stands for the file it writes its result to, and
            ``{parallel}`` for what lets pytest use several processes, if it can.
        seconds: its time limit; what earlier stages leave over is added.
        on_cpu: arguments without a GPU; None where there is nothing to run.
        read: output file to result.
        needs: a folder of the checkout that it cannot do without.
    """

    name: str
    arguments: str
    seconds: float
    on_cpu: str | None = None
    read: Callable[[Path], dict[str, Any]] = read_json
    needs: str | None = None


_CAPTURED = "-m dainv_bench captured --device cuda --out {output}"

# What needs a compiler for whole networks comes last: it takes longest, and may not work. On a CPU two stages rehearse
# themselves; everything else would say nothing about a GPU.
STAGES = (
    Stage(
        "tests",
        "-m pytest -v --tb short --maxfail 300 -m gpu {parallel} -p no:cacheprovider --continue-on-collection-errors "
        "--junitxml {output} tests",
        105,
        read=read_junit,
        needs="tests",
    ),
    Stage(
        "kernels",
        "-m dainv_bench kernels --device cuda --rounds 15 --workloads all-layers,gigabyte,layer* --seconds 80 "
        "--out {output}",
        100,
        on_cpu="-m dainv_bench kernels --device cpu --quick --out {output}",
    ),
    Stage(
        "captured",
        f"{_CAPTURED} --arms published,closed-form,ours-after,ours,ours-relu,ours-fused --compiled=",
        45,
    ),
    Stage(
        "training",
        "-m dainv_bench training --device cuda --out {output}",
        60,
        on_cpu="-m dainv_bench training --device cpu --quick --out {output}",
    ),
    Stage("captured-norm", f"{_CAPTURED} --batch-norm --arms ours-fused --compiled=", 25),
    Stage("launches", "-m dainv_bench launches --device cuda --out {output}", 30),
    Stage("overhead", "-m dainv_bench overhead --device cuda --limit 1e9 --out {output}", 35),
    Stage("captured-compiled", f"{_CAPTURED} --arms compiled,closed-form,ours-fused", 75),
)
