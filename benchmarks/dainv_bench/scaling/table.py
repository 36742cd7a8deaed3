"""Growth for people: a table that fits 80 columns, and the same in Markdown."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dainv_bench.scaling.suite import AxisResult, MethodResult, ScalingResult

_HEADINGS = ("varied", "method", "first", "last", "exponent (95 %)")


def _milliseconds(value: float) -> str:
    if value >= 1e3:
        return f"{value / 1e3:.2f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def _row(name: str, method: MethodResult) -> list[str]:
    growth, medians = method["growth"], method["median_milliseconds"]
    fitted = f"{growth['exponent']:.2f} ({growth['low']:.2f} to {growth['high']:.2f})" if growth else "–"
    return [name, _milliseconds(medians[0]), _milliseconds(medians[-1]), fitted]


def _varied(name: str, axis: AxisResult) -> str:
    values = axis["values"]
    return f"{name} {values[0]}…{values[-1]}" if len(values) > 1 else f"{name} {values[0]}"


def _rows(axis: AxisResult) -> list[list[str]]:
    """Of the methods that were run."""
    return [_row(name, method) for name, method in axis["methods"].items() if method["not_run"] is None]


def _not_run(result: ScalingResult) -> list[str]:
    """A line for each method that was not run, and why."""
    where: dict[tuple[str, str], list[str]] = {}
    for name, axis in result["axes"].items():
        for method, one in axis["methods"].items():
            if one["not_run"] is not None:
                where.setdefault((method, one["not_run"]), []).append(name)
    return [f"{', '.join(names)}: {method} not run: {reason}" for (method, reason), names in where.items()]


def _fixed(fixed: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} = {value}" for name, value in fixed.items())


def _legend(result: ScalingResult) -> list[str]:
    """What each axis is, and what the rest stayed at."""
    return [
        f"{name}, {axis['meaning']}: {axis['work']}; {_fixed(axis['fixed'])}" for name, axis in result["axes"].items()
    ]


def _rounds(result: ScalingResult) -> str:
    counts = sorted({len(axis["orders"]) for axis in result["axes"].values() if axis["orders"]})
    return " to ".join(str(count) for count in counts) or "no"


def print_scaling(console: Console, result: ScalingResult) -> None:
    """The table of ``dainv-bench scaling``, and what to know about it."""
    settings = result["settings"]
    console.print(Text(f"Growth of cost, {settings['dtype']}, {settings['device']}"))
    table = Table()
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("varied", "method") else "right")
    for number, (name, axis) in enumerate(result["axes"].items()):
        if number:
            table.add_section()
        for place, row in enumerate(_rows(axis)):
            table.add_row("" if place else _varied(name, axis), *row)
    console.print(table)
    for line in _legend(result) + _not_run(result):
        console.print(Text(line), soft_wrap=True)
    stopped = f", interrupted before all of {', '.join(settings['axes'])} were done" if result["interrupted"] else ""
    console.print(Text(f"medians of {_rounds(result)} rounds{stopped}"), soft_wrap=True)
    before, after = result["load_average"]["before"], result["load_average"]["after"]
    if before and after:
        cpus = result["environment"]["cpu_count"]
        console.print(Text(f"load average {before[0]:.2f} before, {after[0]:.2f} after, on {cpus} CPUs"))


def scaling_markdown(result: ScalingResult) -> str:
    """The same in Markdown, for a README."""
    settings, environment = result["settings"], result["environment"]
    where = f"{environment['cpu_count']} CPU cores ({environment['cpu']})"
    if settings["device"] != "cpu":
        where = ", ".join(environment["cuda_devices"])
    caption = (
        f"Growth of cost, {settings['dtype']}, on {where}, torch {environment['libraries']['torch']}: exponent of a "
        f"power law through medians of {_rounds(result)} rounds."
    )
    rows = [f"| {' | '.join(_HEADINGS)} |", f"|{'---|' * len(_HEADINGS)}"]
    for name, axis in result["axes"].items():
        rows += [f"| {_varied(name, axis)} | {' | '.join(row)} |" for row in _rows(axis)]
    return "\n".join([caption, "", *rows, "", *(f"- {line}" for line in _legend(result) + _not_run(result))]) + "\n"
