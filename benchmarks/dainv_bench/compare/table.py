"""A comparison for people: what differs besides, tables that fit 80 columns, and what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from dainv_bench.compare.changes import Change
from dainv_bench.compare.series import Key
from dainv_bench.formats import number_table, print_table, readable_time
from dainv_bench.provenance import commit_of, date_of, load_of, machine_of

_STYLES = {"slower": "red", "faster": "green"}


def print_header(console: Console, names: Mapping[str, str], results: Mapping[str, dict[str, Any]]) -> None:
    """Where A and B come from."""
    for letter, result in results.items():
        parts = [date_of(result), machine_of(result), commit_of(result), load_of(result)]
        console.print(Text(f"{letter}: {names[letter]}, {'; '.join(filter(None, parts))}"), soft_wrap=True)


def print_differences(console: Console, found: Mapping[str, list[str]]) -> None:
    """What differs in machine, versions and settings, from A to B."""
    if found["machine"]:
        console.print(Text("different machines: the ratios compare these too", style="bold"), soft_wrap=True)
    if found["settings"]:
        console.print(Text("different settings: the ratios may be due to them", style="bold"), soft_wrap=True)
    for topic, lines in found.items():
        for line in lines:
            console.print(Text(f"{topic}, {line}"), soft_wrap=True)
    if not any(found.values()):
        console.print("same machine, versions and settings")


def print_changes(console: Console, changes: Mapping[Key, Change]) -> None:
    """A table a case."""
    for case, group in groupby(changes, key=lambda key: key.case):
        if case:
            console.print(Text(case, style="bold"), soft_wrap=True)
        table = number_table("method", "A", "B", "B / A", "95 % interval", "")
        for key in group:
            change = changes[key]
            ratio = change.ratio
            table.add_row(
                key.method,
                readable_time(change.a),
                readable_time(change.b),
                f"{ratio['median']:.3f}",
                f"{ratio['low']:.3f} to {ratio['high']:.3f}",
                Text(change.verdict, style=_STYLES.get(change.verdict, "")),
            )
        print_table(console, table)


def print_summary(console: Console, changes: Mapping[Key, Change], alone: Mapping[Key, tuple[str, str]]) -> None:
    """What could not be compared, and how many changed."""
    for (case, in_a, in_b), group in groupby(alone.items(), key=lambda item: (item[0].case, *item[1])):
        methods = ", ".join(key.method for key, _ in group)
        console.print(Text(f"{case and f'{case}, '}{methods} not compared: A {in_a}; B {in_b}"), soft_wrap=True)
    count = Counter(change.verdict for change in changes.values())
    changed = count["slower"] + count["faster"]
    console.print(
        Text(
            f"{changed} of {len(changes)} changed beyond noise: {count['slower']} slower, {count['faster']} faster",
            style="bold",
        )
    )
