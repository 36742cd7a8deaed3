"""A result for people: a caption, a table, notes and a verdict, for a terminal of 80 columns or in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dainv_bench.formats import print_table
from dainv_bench.provenance import load_of

NOTHING = "–"


@dataclass(frozen=True)
class Summary:
    """What is said of a result.

    Attributes:
        caption: what was measured, where, and how often; one paragraph.
        headings: of the columns. What stands left of the names is said once for all rows that share it.
        names: which column holds the names of who was measured.
        rows: a cell a column; missing ones at the end are empty.
        notes: one sentence each; names between backticks.
        verdict: one sentence; None where there is nothing to judge.
        legend: who the names stand for, one line each, for a document.
    """

    caption: str
    headings: Sequence[str]
    names: int
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    verdict: str | None = None
    legend: Sequence[str] = ()


def print_summary(console: Console, summary: Summary, result: Mapping[str, Any]) -> None:
    """Caption, table, notes, under what circumstances it was measured, and the verdict."""
    console.print(Text(summary.caption), soft_wrap=True)
    table = Table()
    for place, heading in enumerate(summary.headings):
        table.add_column(heading, no_wrap=True, justify="left" if place <= summary.names else "right")
    before: Sequence[str] | None = None
    for row in summary.rows:
        shared = row[: summary.names]
        if before is not None and shared != before:
            table.add_section()
        table.add_row(*("" for _ in shared) if shared == before else shared, *row[summary.names :])
        before = shared
    print_table(console, table)
    for note in (*summary.notes, *circumstances(result)):
        console.print(Text(note.replace("`", "")), soft_wrap=True)
    if summary.verdict is not None:
        console.print(Text(summary.verdict.replace("`", ""), style="bold"), soft_wrap=True)


def summary_markdown(summary: Summary) -> str:
    """The same in Markdown, for a README."""
    rows = [[*row[: summary.names], f"`{row[summary.names]}`", *row[summary.names + 1 :]] for row in summary.rows]
    notes = [*summary.notes, *filter(None, [summary.verdict])]
    table = markdown_table(summary.headings, rows, left=summary.names + 1)
    return f"{summary.caption}\n\n{table}" + ("\n" + markdown_list(notes) if notes else "")


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """So many columns left, the others right."""
    alignment = [*["---"] * left, *["---:"] * (len(headings) - left)]
    filled = [[*row, *[""] * (len(headings) - len(row))] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, alignment, *filled))


def markdown_list(lines: Iterable[str]) -> str:
    """A line each."""
    return "".join(f"- {line}\n" for line in lines)


def without_a_time(entries: Iterable[tuple[str, str, str | None]]) -> list[str]:
    """A sentence for each reason why somebody has no time.

    Args:
        entries: where, who, and the reason; None where there is a time.
    """
    by_reason: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for place, name, reason in entries:
        if reason is not None:
            names, places = by_reason.setdefault(reason, ({}, {}))
            names[f"`{name}`"] = None
            if place:
                places[place] = None
    return [
        f"{', '.join(names)} not run{f' ({_shortened(list(places))})' if places else ''}: {reason}"
        for reason, (names, places) in by_reason.items()
    ]


def _shortened(places: list[str]) -> str:
    return ", ".join(places) if len(places) <= 3 else f"{', '.join(places[:2])} and {len(places) - 2} more"


def place_of(result: Mapping[str, Any]) -> str:
    """The device and torch, in a few words."""
    environment = result["environment"]
    cores = f"{environment['cpu_count']} CPU cores ({environment['cpu']})"
    where = cores if result["settings"]["device"] == "cpu" else ", ".join(environment["cuda_devices"])
    return f"on {where}, torch {environment['libraries']['torch']}"


def network_of(settings: Mapping[str, Any]) -> str:
    """All-CNN-C, and in what it is unlike the published one."""
    norm = " with batch norm" if settings["batch_norm"] else ""
    return f"All-CNN-C{norm}" + ("" if settings["width"] == 1 else f" (width {settings['width']:g})")


def counted(counts: Iterable[int], noun: str = "rounds") -> str:
    """``20 rounds``, or ``3 to 20 rounds`` where it is not the same everywhere."""
    found = sorted(set(counts))
    if not found:
        return f"no {noun}"
    return f"{found[0]} to {found[-1]} {noun}" if len(found) > 1 else f"{found[0]} {noun}"


def circumstances(result: Mapping[str, Any]) -> list[str]:
    """Whether it was interrupted, and the load, where that is known."""
    load = load_of(result)
    return [
        *(["interrupted before all was measured"] if result.get("interrupted") else []),
        *([f"{load}, on {result['environment']['cpu_count']} CPUs"] if load else []),
    ]


def judged(verdict: str, limit: str) -> str:
    """A verdict of :func:`dainv_bench.statistics.judge` in words."""
    words = {
        "within": "within the limit of",
        "above": "above the limit of",
        "undecided": "undecided: the interval contains the limit of",
    }
    return f"{words[verdict]} {limit}"


def printer(summarise: Callable[[Any], Summary]) -> Callable[[Console, Any], None]:
    """What prints a result by its summary."""
    return lambda console, result: print_summary(console, summarise(result), result)
