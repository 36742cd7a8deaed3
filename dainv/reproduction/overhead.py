"""The claim that `dainv-bench overhead` measures, not the runs of a reproduction: about 10 % more training time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dainv.errors import UserError
from dainv.formatting import interval, number, signed
from dainv.reproduction.published import OVERHEAD_PERCENT
from dainv.reproduction.verdict import OPEN, Verdict, side, verdict_seeds
from dainv.summaries import Estimate

OVERHEAD = "overhead"  # the claim


class Overhead(NamedTuple):
    """What ``dainv-bench overhead`` measured, in percent of a training step.

    Attributes:
        arm: the implementation that the verdict is about.
        percent: what it adds.
        machine: where.
        network: which, and in what batches.
        published: what the matrix of all distances adds there, the way of the paper; None where it was not run.
    """

    arm: str
    percent: Estimate
    machine: str
    network: str
    published: Estimate | None = None


def read_overhead(path: str | Path) -> Overhead:
    """The overhead in a result of ``dainv-bench overhead``: that of the arm its verdict is about.

    Raises:
        UserError: not such a file, or one without a verdict.
    """
    try:
        found = json.loads(Path(path).read_text())
        if found["suite"] != "overhead":
            raise UserError(f"{path}: results of {found['suite']!r}, expected those of `dainv-bench overhead`")
        verdict, machine, settings = found["verdict"], found["environment"], found["settings"]
        if verdict is None:
            raise UserError(f"{path}: has no verdict; did its measurement run to the end?")
        published = found["arms"].get("published", {}).get("overhead_percent")
        width, batch = settings["width"], f"batches of {settings['batch_size']}"
        return Overhead(
            verdict["arm"],
            _percent(verdict["overhead_percent"]),
            ", ".join(machine["cuda_devices"]) or f"{machine['cpu']}, {machine['cpu_count']} cores",
            f"All-CNN-C, {batch}" if width == 1 else f"All-CNN-C of width {width}, {batch}",
            _percent(published) if published else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a result of `dainv-bench overhead` ({error})") from None


def _percent(found: dict[str, float]) -> Estimate:
    return Estimate(found["median"], found["low"], found["high"])


def overhead(measured: Sequence[Overhead]) -> Verdict:
    """Section 3: the training time is only increased by about 10 %."""
    statement = "The objective adds only about 10 % to the training time."
    criterion = f"at most {OVERHEAD_PERCENT:.0f} % of a training step, in dainv's implementation"
    if not measured:
        return Verdict(
            OVERHEAD,
            statement,
            OPEN,
            "Not measured here: `dainv-bench overhead` does, and `--overhead FILE` brings its result.",
            criterion,
            {},
        )
    return Verdict(
        OVERHEAD,
        statement,
        verdict_seeds([-side(found.percent, OVERHEAD_PERCENT) for found in measured]),
        " ".join(_measured(found) for found in measured),
        criterion,
        {found.machine: found.percent._asdict() for found in measured},
    )


def _measured(found: Overhead) -> str:
    said = f"{signed(found.percent.value, 1)} % ({interval(found.percent, 1)}) on {found.machine}, of {found.network}"
    if found.published is not None:
        said += f"; the matrix of all distances, the paper's way, adds {number(found.published.value, 1)} % there"
    return f"{said}."
