"""How results are written for people: times, tables of numbers, the line below them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def readable_time(milliseconds: float) -> str:
    """Three digits and the unit that suits them."""
    unit, one = next((unit for unit in (("s", 1e3), ("ms", 1.0)) if milliseconds >= 0.9995 * unit[1]), ("µs", 1e-3))
    value = milliseconds / one
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def readable_memory(nbytes: int | None) -> str:
    """In MiB; a dash where it was not measured."""
    return "–" if nbytes is None else f"{nbytes / 2**20:.0f} MiB"


def number_table(*headings: str) -> Table:
    """First column left and whole, numbers right."""
    table = Table()
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def rounds_line(result: Mapping[str, Any]) -> str:
    """How often everything was timed, and where."""
    rounds = result["settings"]["rounds"]
    stopped = ", interrupted" if result["interrupted"] else ""
    return f"medians of {rounds} rounds{stopped}, {result['settings']['device']}"
