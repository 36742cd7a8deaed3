"""Results for people: tables that fit 80 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dainv_bench.results import ArmResult, OverheadResult
from dainv_bench.statistics import Interval


def _interval(value: Interval) -> str:
    return f"{value['low']:+.1f} to {value['high']:+.1f} %"


def _row(name: str, arm: ArmResult, with_memory: bool) -> list[str]:
    if arm["not_run"] is not None:
        return [name, "not run"]
    overhead, agreement, memory = arm["overhead_percent"], arm["agreement"], arm["peak_memory_bytes"]
    row = [
        name,
        f"{arm['median_milliseconds']:.2f} ms",
        f"{overhead['median']:+.1f} %" if overhead else "–",
        _interval(overhead) if overhead else "–",
        f"{agreement['gradient_error']:.0e}" if agreement else "–",
    ]
    if with_memory:
        row.append("–" if memory is None else f"{memory / 2**20:.0f} MiB")
    return row


def _unit(settings: dict[str, Any]) -> str:
    if settings.get("data"):
        return f"epoch of {settings['updates']} updates on {settings['data']}"
    return "training step"


def _network(settings: dict[str, Any]) -> tuple[str, str]:
    """What is unlike the published one: normalisation, width."""
    norm = " with batch norm" if settings["batch_norm"] else ""
    return norm, "" if settings["width"] == 1 else f", width {settings['width']:g}"


def _milliseconds(arm: ArmResult) -> str:
    value = arm["median_milliseconds"] or 0
    return f"{value:.0f} ms" if value >= 100 else f"{value:.2f} ms"


def print_overhead(console: Console, result: OverheadResult) -> None:
    """The table of ``dainv-bench overhead``, what to know about it, and the verdict."""
    settings, arms = result["settings"], result["arms"]
    norm, width = _network(settings)
    console.print(
        Text(
            f"All-CNN-C {_unit(settings)}{norm}{width}, {settings['batch_size']} = {settings['n_images']} images "
            f"× {settings['views']} views, {settings['dtype']}, {settings['memory_format']}, {settings['device']}"
        )
    )
    with_memory = any(arm["peak_memory_bytes"] is not None for arm in arms.values())
    table = Table()
    table.add_column("arm", no_wrap=True)
    for heading in (
        "epoch" if settings.get("data") else "step",
        "overhead",
        "95 % interval",
        "grad. error",
        *(["memory"] if with_memory else []),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, arm in arms.items():
        table.add_row(*_row(name, arm, with_memory))
    console.print(table)
    for name, arm in arms.items():
        if arm["not_run"] is not None:
            console.print(Text(f"{name} not run: {arm['not_run']}"), soft_wrap=True)
    if not with_memory:
        console.print(Text(f"peak memory: not measured on {settings['device']}"))
    rounds = len(result["orders"])
    stopped = f", interrupted before the {settings['rounds']} asked for" if result["interrupted"] else ""
    console.print(Text(f"medians of {rounds} rounds{stopped}"))
    before, after = result["load_average"]["before"], result["load_average"]["after"]
    if before and after:
        cpus = result["environment"]["cpu_count"]
        console.print(Text(f"load average {before[0]:.2f} before, {after[0]:.2f} after, on {cpus} CPUs"))
    console.print(Text(_verdict_line(result), style="bold"), soft_wrap=True)


def _verdict_line(result: OverheadResult) -> str:
    verdict = result["verdict"]
    if verdict is None:
        return "no verdict: no arm of dainv's own was run"
    overhead = verdict["overhead_percent"]
    words = {
        "within": "within the limit of",
        "above": "above the limit of",
        "undecided": "undecided: the interval contains the limit of",
    }
    return (
        f"{verdict['arm']} costs {overhead['median']:+.1f} % (95 %: {_interval(overhead)}), "
        f"{words[verdict['verdict']]} {verdict['limit_percent']:g} %"
    )


def overhead_markdown(result: OverheadResult) -> str:
    """The same in Markdown, for a README."""
    settings, environment = result["settings"], result["environment"]
    norm, width = _network(settings)
    epoch = bool(settings.get("data"))
    rows = [f"| arm | {'epoch' if epoch else 'step'} | overhead | 95 % interval |", "|---|---|---|---|"]
    for name, arm in result["arms"].items():
        overhead = arm["overhead_percent"]
        if arm["not_run"] is not None:
            rows.append(f"| `{name}` | not run | | |")
        elif overhead is None:
            rows.append(f"| `{name}` | {_milliseconds(arm)} | | |")
        else:
            rows.append(f"| `{name}` | {_milliseconds(arm)} | {overhead['median']:+.1f} % | {_interval(overhead)} |")
    where = f"{environment['cpu_count']} CPU cores ({environment['cpu']})"
    if settings["device"] != "cpu":
        where = ", ".join(environment["cuda_devices"])
    unit = _unit(settings)
    torch = environment["libraries"]["torch"]
    caption = (
        f"{unit[0].upper()}{unit[1:]} of All-CNN-C{norm}{width}, batch {settings['batch_size']} = "
        f"{settings['n_images']} images × {settings['views']} views, {settings['dtype']}, on {where}, torch {torch}; "
        f"medians of {len(result['orders'])} rounds, overhead paired within rounds."
    )
    return "\n".join([caption, "", *rows]) + "\n"
