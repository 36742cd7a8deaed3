"""The kernels for people: tables that fit 80 columns, and wider ones for a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from dainv_bench.formats import number_table, print_table, readable_time
from dainv_bench.kernels.replay import DIRECTIONS
from dainv_bench.summary import NOTHING, circumstances, counted, markdown_list, markdown_table, place_of, without_a_time

_SHOWN = DIRECTIONS[:2]


def print_kernels(console: Console, result: Mapping[str, Any]) -> None:
    """A table a workload: times of a call, shares of the copy bandwidth, the error of the gradient."""
    for key, workload in result["workloads"].items():
        console.print(Text(_heading(key, workload), style="bold"), soft_wrap=True)
        table = number_table("method", *DIRECTIONS, "% of copy", "grad. error")
        for name, method in workload["methods"].items():
            if passes := method["passes"]:
                table.add_row(
                    name,
                    *(readable_time(passes[direction]["median_milliseconds"]) for direction in DIRECTIONS),
                    " / ".join(f"{passes[direction]['percent_of_copy']['median']:.0f}" for direction in _SHOWN),
                    f"{method['errors']['gradient']['error']:.0e}",
                )
            else:
                table.add_row(name, "wrong" if method["wrong"] else "not run")
        print_table(console, table)
    for note in (*notes_of(result), *circumstances(result)):
        console.print(Text(note.replace("`", "")), soft_wrap=True)
    console.print(
        Text(f"% of copy: forward / backward; medians of {_rounds(result)}, {place_of(result)}"), soft_wrap=True
    )


def _rounds(result: Mapping[str, Any]) -> str:
    return counted(len(workload["orders"]) for workload in result["workloads"].values())


def _heading(key: str, workload: Mapping[str, Any]) -> str:
    cached = "" if workload["beyond_cache"] else ", in the cache"
    return (
        f"{key}: {_features(workload)}, {workload['layers'][0]['layout']}, {workload['feature_bytes'] / 1e6:.1f} MB"
        f"{cached}; copy {workload['copy_gigabytes_per_second']:.0f} GB/s; {counted([len(workload['orders'])])}"
    )


def _features(workload: Mapping[str, Any]) -> str:
    """B, M, and the shape of a sample."""
    layers = workload["layers"]
    shape = f"{len(layers)} layers" if len(layers) > 1 else "D = " + " × ".join(map(str, layers[0]["shape"]))
    return f"B = {layers[0]['batch']}, M = {layers[0]['views']}, {shape}"


def notes_of(result: Mapping[str, Any]) -> list[str]:
    """Who is wrong, who was not run and why, and what there was no time for."""
    wrong = [
        f"`{name}` wrong ({key}): {method['wrong']}"
        for key, workload in result["workloads"].items()
        for name, method in workload["methods"].items()
        if method["wrong"] is not None
    ]
    not_run = without_a_time(
        (key, name, method["not_run"])
        for key, workload in result["workloads"].items()
        for name, method in workload["methods"].items()
    )
    left_out = [f"no time for {', '.join(result['left_out'])}"] if result["left_out"] else []
    return [*wrong, *not_run, *left_out]


def kernels_markdown(result: Mapping[str, Any]) -> str:
    """For each dtype the times of a call, then shares of the copy bandwidth: workloads down, methods across."""
    parts = [
        f"Eq. 3 and its gradient, {place_of(result)}, {result['environment']['threads']} threads. In each of "
        f"{_rounds(result)} every method has one call of each direction, and so has a large copy, in an order drawn "
        "anew; times are medians. The bandwidth of a method is the least that memory has to move for it over its time, "
        "the share of the copy is taken within rounds. \\* marks features so few that they stay in the cache.\n"
    ]
    for dtype in dict.fromkeys(workload["dtype"] for workload in result["workloads"].values()):
        parts += _tables_of(dtype, {key: one for key, one in result["workloads"].items() if one["dtype"] == dtype})
    if notes := notes_of(result):
        parts.append(markdown_list(notes))
    return "\n".join(parts)


def kernels_legend(result: Mapping[str, Any]) -> list[str]:
    """Who the methods are, one line each."""
    methods = [item for workload in result["workloads"].values() for item in workload["methods"].items()]
    return list(dict.fromkeys(f"`{name}`: {method['description']}" for name, method in methods))


def _tables_of(dtype: str, workloads: Mapping[str, Any]) -> list[str]:
    """Two tables with their headings."""
    timed = list(
        dict.fromkeys(name for one in workloads.values() for name, method in one["methods"].items() if method["passes"])
    )
    methods = [f"`{name}`" for name in timed]
    times, shares = [], []
    for key, one in workloads.items():
        name = key.removesuffix(f" {dtype}") + ("" if one["beyond_cache"] else "\\*")
        megabytes, copy = f"{one['feature_bytes'] / 1e6:.1f}", f"{one['copy_gigabytes_per_second']:.0f}"
        times.append([name, _features(one), megabytes, *(_times(one, method) for method in timed)])
        shares.append([name, copy, *(_shares(one, method) for method in timed)])
    return [
        f"{dtype}, time of a call, forward / backward:\n",
        markdown_table(["features", "shape", "MB", *methods], times, left=2),
        f"{dtype}, % of the bandwidth of a copy, forward / backward:\n",
        markdown_table(["features", "copy, GB/s", *methods], shares),
    ]


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
        return {}, NOTHING
    return method["passes"], "" if method["passes"] else "wrong" if method["wrong"] else "not run"
