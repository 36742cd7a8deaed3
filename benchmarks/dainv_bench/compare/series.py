"""The samples of a result, whatever its suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dainv_bench.reading import stages_of


class Key(NamedTuple):
    """Who was timed on what."""

    case: str
    method: str


class Series(NamedTuple):
    """Milliseconds, one a round; or the reason why there are none."""

    milliseconds: list[float]
    reason: str | None


def series_of(result: dict[str, Any], where: str) -> dict[Key, Series]:
    """All samples, in the order of the file.

    Args:
        result: of any suite.
        where: what to call it in an error.

    Returns:
        Empty for suites without times.
    """
    found = dict(_own(result))
    for stage, inner in stages_of(result, where).items():
        for key, series in _own(inner):
            found[Key(": ".join(filter(None, (stage, key.case))), key.method)] = series
    return found


def _own(result: Mapping[str, Any]) -> Iterator[tuple[Key, Series]]:
    timed = {**result.get("arms", {}), **result.get("steps", {})} if result["suite"] != "launches" else {}
    for name, one in timed.items():
        yield Key("", name), Series(one["milliseconds"], one["not_run"])
    for precision, one in result.get("precisions", {}).items():
        for form, milliseconds in one["milliseconds"].items():
            yield Key(precision, form), Series(milliseconds, None)
    for n_images, size in result.get("sizes", {}).items():
        for name, one in size["arms"].items():
            yield Key(f"N = {n_images}", name), Series(one["milliseconds"], one["not_run"])
    for axis, along in result.get("axes", {}).items():
        for place, value in enumerate(along["values"]):
            for name, one in along["methods"].items():
                samples = one["milliseconds"][place] if one["milliseconds"] else []
                yield Key(f"{axis} = {value}", name), Series(samples, one["not_run"])
    for workload, on in result.get("workloads", {}).items():
        directions = list(dict.fromkeys(d for method in on["methods"].values() for d in method["passes"]))
        for direction in directions:
            for name, one in on["methods"].items():
                samples = one["passes"][direction]["milliseconds"] if one["passes"] else []
                yield Key(f"{workload} {direction}", name), Series(samples, one["wrong"] or one["not_run"])
