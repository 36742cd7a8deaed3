"""Results of kernels, of captured steps and of a GPU check for people: tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dainv_bench.gpu_check import NOT_RUN, PASSED
from dainv_bench.replay import DIRECTIONS

_STYLES = {"met": "green", "missed": "red"}


def _table(*headings: str) -> Table:
    """First column left and whole, numbers right."""
    table = Table()
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _time(milliseconds: float) -> str:
    return f"{1e3 * milliseconds:.1f} µs" if milliseconds < 1 else f"{milliseconds:.2f} ms"


def print_kernels(console: Console, result: Mapping[str, Any]) -> None:
    """A table a workload: times of a call, shares of the copy bandwidth, the error of the gradient."""
    for key, workload in result["workloads"].items():
        console.print(Text(_heading(key, workload), style="bold"), soft_wrap=True)
        table = _table("method", *DIRECTIONS, "% of copy", "grad. error")
        for name, method in workload["methods"].items():
            if method["passes"]:
                passes = method["passes"]
                table.add_row(
                    name,
                    *(_time(passes[direction]["median_milliseconds"]) for direction in DIRECTIONS),
                    " / ".join(f"{passes[direction]['percent_of_copy']['median']:.0f}" for direction in DIRECTIONS[:2]),
                    f"{method['errors']['gradient']['error']:.0e}",
                )
            else:
                table.add_row(name, "wrong" if method["wrong"] else "not run")
        console.print(table)
        for name, method in workload["methods"].items():
            if method["wrong"] or method["not_run"]:
                what, why = ("wrong", method["wrong"]) if method["wrong"] else ("not run", method["not_run"])
                console.print(Text(f"{name} {what}: {why}"), soft_wrap=True)
    if result["left_out"]:
        console.print(Text(f"no time for {', '.join(result['left_out'])}"), soft_wrap=True)
    console.print(Text(f"% of copy: forward / backward; {_rounds(result)}"), soft_wrap=True)


def _heading(key: str, workload: Mapping[str, Any]) -> str:
    layers = workload["layers"]
    first = layers[0]
    of = f"{len(layers)} layers" if len(layers) > 1 else "D = " + " × ".join(map(str, first["shape"]))
    cached = "" if workload["beyond_cache"] else ", in the cache"
    return (
        f"{key}: B = {first['batch']}, M = {first['views']}, {of}, {first['layout']}, "
        f"{workload['feature_bytes'] / 1e6:.1f} MB{cached}; copy {workload['copy_gigabytes_per_second']:.0f} GB/s"
    )


def _rounds(result: Mapping[str, Any]) -> str:
    rounds = result["settings"]["rounds"]
    stopped = ", interrupted" if result["interrupted"] else ""
    return f"medians of {rounds} rounds{stopped}, {result['settings']['device']}"


def print_captured(console: Console, result: Mapping[str, Any]) -> None:
    """Every form of every arm, and what it adds to the fastest baseline."""
    table = _table("step", "median", "overhead", "95 % interval")
    for key, step in result["steps"].items():
        overhead = step["overhead_percent"]
        if step["not_run"] is not None:
            table.add_row(key, "not run")
            continue
        table.add_row(
            key,
            _time(step["median_milliseconds"]),
            f"{overhead['median']:+.1f} %" if overhead else "–",
            f"{overhead['low']:+.1f} to {overhead['high']:+.1f} %" if overhead else "–",
        )
    console.print(table)
    for key, step in result["steps"].items():
        if step["not_run"] is not None:
            console.print(Text(f"{key} not run: {step['not_run']}"), soft_wrap=True)
    console.print(Text(f"overhead over {result['best_baseline']!r}; {_rounds(result)}"), soft_wrap=True)


def print_training(console: Console, result: Mapping[str, Any]) -> None:
    """A step by precision, with what the objective adds and what 350 epochs would take."""
    table = _table("precision", "step", "without", "eager", "objective adds", "350 epochs")
    for name, one in result["precisions"].items():
        medians, overhead = one["median_milliseconds"], one["overhead_percent"]
        times = [_time(medians[form]) for form in ("objective", "baseline", "objective, eager")]
        seconds = one["seconds_of_350_epochs"]
        epochs = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
        table.add_row(name, *times, f"{overhead['median']:+.1f} %", epochs)
    console.print(table)
    for name, one in result["precisions"].items():
        text = (
            f"{name}: not recorded ({one['not_recorded']})"
            if one["not_recorded"]
            else f"{name}: recorded against eager steps, losses off by {one['loss_error']:.1e}, "
            f"updates by {one['update_error']:.1e}"
        )
        console.print(Text(text), soft_wrap=True)


def print_launches(console: Console, result: Mapping[str, Any]) -> None:
    """Launches of a step, and whether the host waits."""
    table = _table("arm", "launches", "beyond baseline", "host waits")
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
    table = _table("goal", "limit", "measured", "")
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
