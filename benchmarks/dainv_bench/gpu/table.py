"""Launches and a GPU check for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from dainv_bench.formats import number_table, print_table
from dainv_bench.gpu.process import NOT_RUN, PASSED

_STYLES = {"met": "green", "missed": "red"}


def print_launches(console: Console, result: Mapping[str, Any]) -> None:
    """Launches of a step, and whether the host waits."""
    table = number_table("arm", "launches", "beyond baseline", "host waits")
    for name, arm in result["arms"].items():
        if arm["not_run"] is not None:
            table.add_row(name, "not run")
        else:
            table.add_row(
                name, f"{arm['launches']}", f"{arm['beyond_baseline']:+d}", "yes" if arm["host_waits"] else "no"
            )
    print_table(console, table)


def print_gpu_check(console: Console, result: Mapping[str, Any]) -> None:
    """What became of the stages and of the goals."""
    for name, stage in result["stages"].items():
        style = None if stage["status"] in (PASSED, NOT_RUN) else "red"
        reason = f": {stage['reason']}" if stage["reason"] else ""
        console.print(Text(f"{name} {stage['status']} ({stage['seconds']:.0f} s){reason}", style=style or ""))
    table = number_table("goal", "limit", "measured", "")
    for goal in result["goals"]:
        measured = "–" if goal["measured"] is None else f"{goal['measured']:.3g}"
        limit = f"{'≤' if goal['at_most'] else '≥'} {goal['limit']:g}"
        table.add_row(goal["goal"], limit, measured, Text(goal["verdict"], style=_STYLES.get(goal["verdict"], "")))
    print_table(console, table)
    reasons: dict[str, list[str]] = {}
    for goal in result["goals"]:
        if goal["reason"]:
            reasons.setdefault(goal["reason"], []).append(goal["goal"])
    for reason, goals in reasons.items():
        count = f"{len(goals)} goals" if len(goals) > 1 else goals[0]
        console.print(Text(f"{count}: {reason}"), soft_wrap=True)
