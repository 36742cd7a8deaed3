"""Results of captured steps, of training steps and of a GPU check for people: tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from dainv_bench.formats import number_table, readable_time, rounds_line
from dainv_bench.gpu.check import NOT_RUN, PASSED

_STYLES = {"met": "green", "missed": "red"}


def print_captured(console: Console, result: Mapping[str, Any]) -> None:
    """Every form of every arm, and what it adds to the fastest baseline."""
    table = number_table("step", "median", "overhead", "95 % interval")
    for key, step in result["steps"].items():
        overhead = step["overhead_percent"]
        if step["not_run"] is not None:
            table.add_row(key, "not run")
            continue
        table.add_row(
            key,
            readable_time(step["median_milliseconds"]),
            f"{overhead['median']:+.1f} %" if overhead else "–",
            f"{overhead['low']:+.1f} to {overhead['high']:+.1f} %" if overhead else "–",
        )
    console.print(table)
    for key, step in result["steps"].items():
        if step["not_run"] is not None:
            console.print(Text(f"{key} not run: {step['not_run']}"), soft_wrap=True)
    console.print(Text(f"overhead over {result['best_baseline']!r}; {rounds_line(result)}"), soft_wrap=True)


def print_training(console: Console, result: Mapping[str, Any]) -> None:
    """A step by precision, with what the objective adds and what 350 epochs would take."""
    table = number_table("precision", "step", "without", "eager", "objective adds", "350 epochs")
    for name, one in result["precisions"].items():
        medians, overhead = one["median_milliseconds"], one["overhead_percent"]
        times = [readable_time(medians[form]) for form in ("objective", "baseline", "objective, eager")]
        seconds = one["seconds_of_350_epochs"]
        epochs = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
        table.add_row(name, *times, f"{overhead['median']:+.1f} %", epochs)
    console.print(table)
    for name, one in result["precisions"].items():
        share = one["augmentation_percent"]
        console.print(
            Text(f"{name}: augmentation {share['median']:.1f} % of a step ({share['low']:.1f} to {share['high']:.1f})")
        )
        text = (
            f"{name}: not recorded ({one['not_recorded']})"
            if one["not_recorded"]
            else f"{name}: recorded against eager steps, losses off by {one['loss_error']:.1e}, "
            f"updates by {one['update_error']:.1e}"
        )
        console.print(Text(text), soft_wrap=True)


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
    console.print(table)


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
    console.print(table)
    reasons: dict[str, list[str]] = {}
    for goal in result["goals"]:
        if goal["reason"]:
            reasons.setdefault(goal["reason"], []).append(goal["goal"])
    for reason, goals in reasons.items():
        count = f"{len(goals)} goals" if len(goals) > 1 else goals[0]
        console.print(Text(f"{count}: {reason}"), soft_wrap=True)
