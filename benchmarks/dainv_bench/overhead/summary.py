"""The overhead for people."""

from __future__ import annotations

from dainv_bench.formats import readable_memory, readable_time
from dainv_bench.overhead.results import ArmResult, OverheadResult
from dainv_bench.overhead.settings import KEPT
from dainv_bench.statistics import Interval
from dainv_bench.summary import NOTHING, Summary, judged, network_of, place_of, without_a_time


def summarise(result: OverheadResult) -> Summary:
    """Every arm: its time, what it adds to the baseline, and how far its gradient is off."""
    settings, arms = result["settings"], result["arms"]
    unit = "epoch" if settings.get("epoch") else "step"
    with_memory = any(arm["peak_memory_bytes"] is not None for arm in arms.values())
    return Summary(
        caption=_caption(result, unit),
        headings=["arm", unit, "overhead", "95 % interval", "grad. error", *(["memory"] if with_memory else [])],
        names=0,
        rows=[[name, *_cells(arm, with_memory)] for name, arm in arms.items()],
        notes=[
            *without_a_time(("", name, arm["not_run"]) for name, arm in arms.items()),
            *([] if with_memory else ["peak memory: not measured on a CPU"]),
        ],
        verdict=_verdict(result),
        legend=[f"`{name}`: {arm['description']}" for name, arm in arms.items()],
    )


def _caption(result: OverheadResult, unit: str) -> str:
    settings = result["settings"]
    where = place_of(result) + (", freed memory kept" if settings.get("allocator") == KEPT else "")
    of = f"{settings['updates']} updates on {settings['data']}, batches made anew" if unit == "epoch" else "one update"
    return (
        f"Time of a training {unit} ({of}) of {network_of(settings)}, batch {settings['batch_size']} = "
        f"{settings['n_images']} images × {settings['views']} views, {settings['dtype']}, {where}. In each "
        f"of {len(result['orders'])} rounds every arm has one {unit}, in an order drawn anew; {unit}: the median; "
        f"overhead: how much longer than the baseline's {unit} of the same round, median and its bootstrap interval; "
        "grad. error: relative, against float64, before anything was timed."
    )


def _cells(arm: ArmResult, with_memory: bool) -> list[str]:
    milliseconds, overhead = arm["median_milliseconds"], arm["overhead_percent"]
    if milliseconds is None:
        return ["not run"]
    agreement, memory = arm["agreement"], arm["peak_memory_bytes"]
    return [
        readable_time(milliseconds),
        f"{overhead['median']:+.1f} %" if overhead else NOTHING,
        percent_interval(overhead) if overhead else NOTHING,
        f"{agreement['gradient_error']:.0e}" if agreement else NOTHING,
        *([readable_memory(memory)] if with_memory else []),
    ]


def percent_interval(value: Interval) -> str:
    """The ends of an interval."""
    return f"{value['low']:+.1f} to {value['high']:+.1f} %"


def _verdict(result: OverheadResult) -> str:
    verdict = result["verdict"]
    if verdict is None:
        return "no verdict: no arm of dainv's own was run"
    overhead = verdict["overhead_percent"]
    return f"`{verdict['arm']}` costs {overhead['median']:+.1f} % (95 %: {percent_interval(overhead)}), " + judged(
        verdict["verdict"], f"{verdict['limit_percent']:g} %"
    )
