"""Captured steps for people."""

from __future__ import annotations

from dainv_bench.captured.results import CapturedResult, FormResult
from dainv_bench.formats import readable_time
from dainv_bench.overhead.summary import percent_interval
from dainv_bench.summary import NOTHING, Summary, network_of, place_of, without_a_time


def summarise(result: CapturedResult) -> Summary:
    """Every form of every arm, and what it adds to the fastest baseline."""
    settings, steps = result["settings"], result["steps"]
    return Summary(
        caption=(
            f"Training step of {network_of(settings)}, batch {settings['batch_size']} = {settings['n_images']} images "
            f"× {settings['views']} views, {settings['dtype']}, {place_of(result)}: as it is called, recorded as a "
            f"CUDA graph, or compiled before. Medians of {len(result['orders'])} rounds; overhead over "
            f"“{result['best_baseline']}”, the fastest baseline, of the same round."
        ),
        headings=["step", "time", "overhead", "95 % interval"],
        names=0,
        rows=[[name, *_cells(step)] for name, step in steps.items()],
        notes=without_a_time(("", name, step["not_run"]) for name, step in steps.items()),
    )


def _cells(step: FormResult) -> list[str]:
    milliseconds, overhead = step["median_milliseconds"], step["overhead_percent"]
    if milliseconds is None:
        return ["not run"]
    return [
        readable_time(milliseconds),
        f"{overhead['median']:+.1f} %" if overhead else NOTHING,
        percent_interval(overhead) if overhead else NOTHING,
    ]
