"""How results are written for people: times, memory, tables of numbers."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
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


def print_table(console: Console, table: Table) -> None:
    """A table without a digit left out: too wide for the terminal, it breaks its headings, then its lines run on."""

    def width() -> int:
        return Measurement.get(console, console.options.update(max_width=10_000), table).maximum

    if width() > console.width:
        for column in table.columns:
            column.header = str(column.header).replace(" ", "\n")
    table.width = width()
    console.print(table, crop=False)
