"""Tables in Markdown, of those suites whose own files have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dainv_bench.formats import readable_time
from dainv_bench.provenance import machine_of

_SHOWN = ("forward", "backward")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """First column left, the others right."""
    alignment = ["---", *["---:"] * (len(headings) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, alignment, *rows))


def kernels_markdown(result: Mapping[str, Any]) -> str:
    """For each dtype the times of a call, then shares of the copy bandwidth: workloads down, methods across."""
    lines = [
        f"Eq. 3 and its gradient on {machine_of(result)}: medians of {result['settings']['rounds']} rounds, "
        "forward / backward. * marks features so few that they stay in the cache.\n"
    ]
    for dtype in dict.fromkeys(workload["dtype"] for workload in result["workloads"].values()):
        workloads = {key: one for key, one in result["workloads"].items() if one["dtype"] == dtype}
        timed = list(
            dict.fromkeys(
                name for one in workloads.values() for name, method in one["methods"].items() if method["passes"]
            )
        )
        methods = [f"`{name}`" for name in timed]
        times, shares = [], []
        for key, one in workloads.items():
            name = key.removesuffix(f" {dtype}") + ("" if one["beyond_cache"] else "\\*")
            times.append([name, f"{one['feature_bytes'] / 1e6:.1f}", *(_times(one, method) for method in timed)])
            copy = f"{one['copy_gigabytes_per_second']:.0f}"
            shares.append([name, copy, *(_shares(one, method) for method in timed)])
        lines.append(f"{dtype}, time of a call:\n")
        lines.append(table(["features", "MB", *methods], times))
        lines.append(f"{dtype}, % of the bandwidth of a copy:\n")
        lines.append(table(["features", "copy, GB/s", *methods], shares))
    if result["left_out"]:
        lines.append(f"No time for {', '.join(result['left_out'])}.\n")
    return "\n".join(lines)


def _times(workload: Mapping[str, Any], name: str) -> str:
    passes, why_not = _passes(workload, name)
    return why_not or " / ".join(readable_time(passes[one]["median_milliseconds"]) for one in _SHOWN)


def _shares(workload: Mapping[str, Any], name: str) -> str:
    passes, why_not = _passes(workload, name)
    return why_not or " / ".join(f"{passes[one]['percent_of_copy']['median']:.3g}" for one in _SHOWN)


def _passes(workload: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], str]:
    """Of a method that was timed on some workload: its passes on this one, or the word for why there are none."""
    method = workload["methods"].get(name)
    if method is None:
        return {}, "–"
    return method["passes"], "" if method["passes"] else "wrong" if method["wrong"] else "not run"


def captured_markdown(result: Mapping[str, Any]) -> str:
    """Every form of every arm, and what it adds to the fastest baseline."""
    settings = result["settings"]
    norm = " with batch norm" if settings["batch_norm"] else ""
    rows = []
    for key, step in result["steps"].items():
        overhead = step["overhead_percent"]
        rows.append(
            [
                key,
                "not run" if step["not_run"] is not None else readable_time(step["median_milliseconds"]),
                f"{overhead['median']:+.1f} %" if overhead else "",
                f"{overhead['low']:+.1f} to {overhead['high']:+.1f} %" if overhead else "",
            ]
        )
    return (
        f"Training step of All-CNN-C{norm}, batch {settings['batch_size']} = {settings['n_images']} images × "
        f"{settings['views']} views, {settings['dtype']}, on {machine_of(result)}; medians of "
        f"{len(result['orders'])} rounds, overhead over *{result['best_baseline']}* paired within rounds.\n\n"
        + table(["step", "time", "overhead", "95 % interval"], rows)
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
        f"with {settings['views']} views.\n\n" + table(["arm", "launches", "beyond the baseline's", "host waits"], rows)
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
            table(["stage", "", "took", "why"], stages),
            table(["goal", "limit", "measured", "95 % interval", "", "why"], goals),
        ]
    )


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|")
