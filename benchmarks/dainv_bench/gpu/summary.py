"""Launches and a GPU check for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from dainv_bench.formats import number_table, print_table
from dainv_bench.gpu.process import NOT_RUN, PASSED
from dainv_bench.provenance import machine_of
from dainv_bench.summary import NOTHING, Summary, markdown_table, without_a_time

_STYLES = {"met": "green", "missed": "red"}


def summarise_launches(result: Mapping[str, Any]) -> Summary:
    """Launches of every arm's step, and whether the host waits."""
    settings, arms = result["settings"], result["arms"]
    return Summary(
        caption=(
            f"What one eager training step of All-CNN-C launches on {machine_of(result)}, batch "
            f"{settings['batch_size']} with {settings['views']} views."
        ),
        headings=["arm", "launches", "beyond the baseline's", "host waits"],
        names=0,
        rows=[
            [name, f"{arm['launches']}", f"{arm['beyond_baseline']:+d}", "yes" if arm["host_waits"] else "no"]
            if arm["not_run"] is None
            else [name, "not run"]
            for name, arm in arms.items()
        ],
        notes=without_a_time(("", name, arm["not_run"]) for name, arm in arms.items()),
    )


def print_gpu_check(console: Console, result: Mapping[str, Any]) -> None:
    """What became of the stages and of the goals."""
    for name, stage in result["stages"].items():
        style = "" if stage["status"] in (PASSED, NOT_RUN) else "red"
        reason = f": {stage['reason']}" if stage["reason"] else ""
        console.print(Text(f"{name} {stage['status']} ({stage['seconds']:.0f} s){reason}", style=style))
    table = number_table("goal", "limit", "measured", "")
    reasons: dict[str, list[str]] = {}
    for goal in result["goals"]:
        verdict = Text(goal["verdict"], style=_STYLES.get(goal["verdict"], ""))
        table.add_row(goal["goal"], _limit(goal), _measured(goal) or NOTHING, verdict)
        if goal["reason"]:
            reasons.setdefault(goal["reason"], []).append(goal["goal"])
    print_table(console, table)
    for reason, goals in reasons.items():
        count = f"{len(goals)} goals" if len(goals) > 1 else goals[0]
        console.print(Text(f"{count}: {reason}"), soft_wrap=True)


def gpu_check_markdown(result: Mapping[str, Any]) -> str:
    """The same in Markdown, with intervals."""
    stages = [
        [f"`{name}`", stage["status"], f"{stage['seconds']:.0f} s", _in_a_cell(stage["reason"])]
        for name, stage in result["stages"].items()
    ]
    goals = [
        [
            goal["goal"],
            _limit(goal),
            _measured(goal),
            "" if goal["low"] is None else f"{goal['low']:.3g} to {goal['high']:.3g}",
            goal["verdict"],
            _in_a_cell(goal["reason"]),
        ]
        for goal in result["goals"]
    ]
    return "\n".join(
        [
            f"Stages and goals on {machine_of(result)}.\n",
            markdown_table(["stage", "", "took", "why"], stages),
            markdown_table(["goal", "limit", "measured", "95 % interval", "", "why"], goals),
        ]
    )


def _limit(goal: Mapping[str, Any]) -> str:
    return f"{'≤' if goal['at_most'] else '≥'} {goal['limit']:g}"


def _measured(goal: Mapping[str, Any]) -> str:
    return "" if goal["measured"] is None else f"{goal['measured']:.3g}"


def _in_a_cell(reason: str | None) -> str:
    return (reason or "").replace("|", "\\|")
