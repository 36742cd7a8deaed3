"""Tables in Markdown, of those suites whose own files have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dainv_bench.formats import readable_time
from dainv_bench.overhead.summary import percent_interval
from dainv_bench.provenance import machine_of
from dainv_bench.summary import markdown_list, markdown_table, without_a_time


def captured_markdown(result: Mapping[str, Any]) -> str:
    """Every form of every arm, and what it adds to the fastest baseline."""
    settings = result["settings"]
    norm = " with batch norm" if settings["batch_norm"] else ""
    notes = without_a_time(("", key, step["not_run"]) for key, step in result["steps"].items())
    rows = []
    for key, step in result["steps"].items():
        overhead = step["overhead_percent"]
        rows.append(
            [
                key,
                "not run" if step["not_run"] is not None else readable_time(step["median_milliseconds"]),
                f"{overhead['median']:+.1f} %" if overhead else "",
                percent_interval(overhead) if overhead else "",
            ]
        )
    return (
        f"Training step of All-CNN-C{norm}, batch {settings['batch_size']} = {settings['n_images']} images × "
        f"{settings['views']} views, {settings['dtype']}, on {machine_of(result)}; medians of "
        f"{len(result['orders'])} rounds, overhead over *{result['best_baseline']}* paired within rounds.\n\n"
        + markdown_table(["step", "time", "overhead", "95 % interval"], rows)
        + (f"\n{markdown_list(notes)}" if notes else "")
    )


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
