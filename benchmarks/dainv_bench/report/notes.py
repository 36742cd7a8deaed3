"""What a table leaves unsaid: who was not run and why, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def notes_of(result: Mapping[str, Any]) -> list[str]:
    """One sentence each."""
    where: dict[tuple[str, str], list[str]] = {}
    for place, name, reason in _without_a_time(result):
        where.setdefault((name, reason), []).append(place)
    found = [f"`{name}`{_at(places)} has no time: {reason}." for (name, reason), places in where.items()]
    verdict = result.get("verdict")
    if verdict and "arm" in verdict:
        found.append(f"`{verdict['arm']}` against the limit of {verdict['limit_percent']:g} %: {verdict['verdict']}.")
    elif verdict:
        found.append(
            f"Streaming {verdict['n_images']} images against the limit of {verdict['limit']:g} times the forward "
            f"passes: {verdict['verdict']}."
        )
    return found


def _at(places: list[str]) -> str:
    named = [place for place in places if place]
    return f" ({', '.join(named)})" if 0 < len(named) <= 3 else f" ({len(named)} times)" if named else ""


def _without_a_time(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Where, who and why; of scaling nothing, whose own table says it."""
    for name, one in (*result.get("arms", {}).items(), *result.get("steps", {}).items()):
        if one["not_run"] is not None:
            yield "", name, one["not_run"]
    for n_images, size in result.get("sizes", {}).items():
        for name, one in size["arms"].items():
            if one["not_run"] is not None:
                yield f"N = {n_images}", name, one["not_run"]
    for key, workload in result.get("workloads", {}).items():
        for name, one in workload["methods"].items():
            if one["wrong"] is not None or one["not_run"] is not None:
                yield key, name, f"wrong, {one['wrong']}" if one["wrong"] else one["not_run"]
