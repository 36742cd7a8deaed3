"""The scores for people."""

from __future__ import annotations

from dainv_bench.formats import readable_memory, readable_time
from dainv_bench.scores.results import ArmResult, ScoresResult
from dainv_bench.statistics import Interval
from dainv_bench.summary import NOTHING, Summary, counted, judged, network_of, place_of, without_a_time


def summarise(result: ScoresResult) -> Summary:
    """Every arm at every N: time, its ratio to the forward passes, memory."""
    settings, sizes = result["settings"], result["sizes"]
    arms = [(f"N = {n_images}", name, arm) for n_images, size in sizes.items() for name, arm in size["arms"].items()]
    return Summary(
        caption=(
            f"Time and peak memory of the invariance scores (Eq. 2) of {network_of(settings)}, 9 layers and the "
            f"pixels, N images, {settings['repeats']} transformations of each, batches of {settings['batch_size']}, "
            f"{settings['dtype']}, {place_of(result)}. In each of {counted(len(s['orders']) for s in sizes.values())} "
            "every arm has one run, in an order drawn anew; time: the median; × forward: its time over that of the "
            "bare forward passes of the same round, median and its bootstrap interval."
        ),
        headings=["N", "arm", "time", "× forward", "95 % interval", "memory"],
        names=1,
        rows=[[place.removeprefix("N = "), name, *_cells(arm)] for place, name, arm in arms],
        notes=[*without_a_time((place, name, arm["not_run"]) for place, name, arm in arms), *_alone(result)],
        verdict=_verdict(result),
        legend=list(dict.fromkeys(f"`{name}`: {arm['description']}" for _, name, arm in arms)),
    )


def _cells(arm: ArmResult) -> list[str]:
    if arm["median_milliseconds"] is None:
        return ["not run"]
    ratio = arm["ratio_to_forward"]
    return [
        readable_time(arm["median_milliseconds"]),
        f"{ratio['median']:.3f}" if ratio else NOTHING,
        _range(ratio) if ratio else NOTHING,
        readable_memory(arm["peak_memory_bytes"]),
    ]


def _range(value: Interval) -> str:
    return f"{value['low']:.3f} to {value['high']:.3f}"


def _alone(result: ScoresResult) -> list[str]:
    """What scoring costs without augmentation, at each N where it is known."""
    return [
        f"streaming without augmentation, N = {n_images}: {ratio['median']:.3f} × forward ({_range(ratio)})"
        for n_images, size in result["sizes"].items()
        if (ratio := size["streaming_without_augmentation"]) is not None
    ]


def _verdict(result: ScoresResult) -> str:
    verdict = result["verdict"]
    if verdict is None:
        return "no verdict: streaming was not run"
    ratio = verdict["ratio_to_forward"]
    return (
        f"streaming {verdict['n_images']} images costs {ratio['median']:.3f} times the bare forward passes "
        f"(95 %: {_range(ratio)}), " + judged(verdict["verdict"], f"{verdict['limit']:g}")
    )
