"""Growth for people."""

from __future__ import annotations

from collections.abc import Iterator

from dainv_bench.formats import readable_time
from dainv_bench.scaling.results import AxisResult, MethodResult, ScalingResult
from dainv_bench.summary import NOTHING, Summary, counted, place_of, without_a_time


def summarise(result: ScalingResult) -> Summary:
    """Every method along every axis: times at both ends, and the exponent between them."""
    axes = result["axes"]
    methods = [(name, method, one) for name, axis in axes.items() for method, one in axis["methods"].items()]
    rounds = counted(len(axis["orders"]) for axis in axes.values() if axis["orders"])
    return Summary(
        caption=(
            f"Growth of cost, {result['settings']['dtype']}, {place_of(result)}. One thing is varied, the rest stays; "
            f"in each of {rounds} every method has one run at every value, in an order drawn anew. Times are medians "
            "at the first and at the last value; the exponent is that of a power law through the medians at all "
            "values, with its bootstrap interval."
        ),
        headings=["varied", "method", "at first", "at last", "exponent (95 %)"],
        names=1,
        rows=list(_rows(result)),
        notes=[
            *_what_is_varied(result),
            *without_a_time((name, method, one["not_run"]) for name, method, one in methods),
        ],
        legend=_legend(result),
    )


def _rows(result: ScalingResult) -> Iterator[list[str]]:
    for name, axis in result["axes"].items():
        for method, one in axis["methods"].items():
            if one["not_run"] is None:
                yield [_varied(name, axis), method, *_cells(one)]


def _varied(name: str, axis: AxisResult) -> str:
    values = axis["values"]
    return f"{name} {values[0]}…{values[-1]}" if len(values) > 1 else f"{name} {values[0]}"


def _cells(method: MethodResult) -> list[str]:
    growth, medians = method["growth"], method["median_milliseconds"]
    fitted = f"{growth['exponent']:.2f} ({growth['low']:.2f} to {growth['high']:.2f})" if growth else NOTHING
    return [readable_time(medians[0]), readable_time(medians[-1]), fitted]


def _what_is_varied(result: ScalingResult) -> list[str]:
    """A line for each axis: its meaning, what is timed, and what the rest stayed at."""
    return [
        f"{name}, {axis['meaning']}: {axis['work']}; "
        + ", ".join(f"{symbol.replace('_', ' ')} = {value}" for symbol, value in axis["fixed"].items())
        for name, axis in result["axes"].items()
    ]


def _legend(result: ScalingResult) -> list[str]:
    """Who each method is, and along which axes."""
    along: dict[tuple[str, str], list[str]] = {}
    for axis, one in result["axes"].items():
        for name, method in one["methods"].items():
            backend = f" ({result['settings']['backend']})" if name == "ours" else ""
            along.setdefault((name, f"{method['description']}{backend}"), []).append(axis)
    return [f"`{name}` ({', '.join(axes)}): {description}" for (name, description), axes in along.items()]
