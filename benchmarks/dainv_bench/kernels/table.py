"""Results of the kernels suite for people: tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from dainv_bench.formats import number_table, readable_time, rounds_line
from dainv_bench.replay import DIRECTIONS


def print_kernels(console: Console, result: Mapping[str, Any]) -> None:
    """A table a workload: times of a call, shares of the copy bandwidth, the error of the gradient."""
    for key, workload in result["workloads"].items():
        console.print(Text(_heading(key, workload), style="bold"), soft_wrap=True)
        table = number_table("method", *DIRECTIONS, "% of copy", "grad. error")
        for name, method in workload["methods"].items():
            if method["passes"]:
                passes = method["passes"]
                table.add_row(
                    name,
                    *(readable_time(passes[direction]["median_milliseconds"]) for direction in DIRECTIONS),
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
    console.print(Text(f"% of copy: forward / backward; {rounds_line(result)}"), soft_wrap=True)


def _heading(key: str, workload: Mapping[str, Any]) -> str:
    layers = workload["layers"]
    first = layers[0]
    of = f"{len(layers)} layers" if len(layers) > 1 else "D = " + " × ".join(map(str, first["shape"]))
    cached = "" if workload["beyond_cache"] else ", in the cache"
    return (
        f"{key}: B = {first['batch']}, M = {first['views']}, {of}, {first['layout']}, "
        f"{workload['feature_bytes'] / 1e6:.1f} MB{cached}; copy {workload['copy_gigabytes_per_second']:.0f} GB/s"
    )
