"""Tables in Markdown, of those suites whose own files have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dainv_bench.provenance import machine_of
from dainv_bench.summary import markdown_table


def launches_markdown(result: Mapping[str, Any]) -> str:
    """Launches of a step, and whether the host waits."""
    settings = result["settings"]
    rows = [
        [f"`{name}`", f"{arm['launches']}", f"{arm['beyond_baseline']:+d}", "yes" if arm["host_waits"] else "no"]
        if arm["not_run"] is None
        else [f"`{name}`", "not run", "", ""]
        for name, arm in result["arms"].items()
    ]
    return (
        f"What one eager training step of All-CNN-C launches on {machine_of(result)}, batch {settings['batch_size']} "
        f"with {settings['views']} views.\n\n"
        + markdown_table(["arm", "launches", "beyond the baseline's", "host waits"], rows)
    )


def gpu_check_markdown(result: Mapping[str, Any]) -> str:
    """What became of the stages and of the goals."""
    stages = [
        [f"`{name}`", stage["status"], f"{stage['seconds']:.0f} s", stage["reason"] or ""]
        for name, stage in result["stages"].items()
    ]
    goals = [
        [
            goal["goal"],
            f"{'≤' if goal['at_most'] else '≥'} {goal['limit']:g}",
            "" if goal["measured"] is None else f"{goal['measured']:.3g}",
            "" if goal["low"] is None else f"{goal['low']:.3g} to {goal['high']:.3g}",
            goal["verdict"],
            _in_a_cell(goal["reason"] or ""),
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


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|")
