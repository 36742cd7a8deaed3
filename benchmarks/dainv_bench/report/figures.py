"""The figures of a report, in the style of the analysis and in the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dainv.drawing import LIGHT, render, style
from dainv_bench.statistics import Interval

_INCHES_A_ROW = 0.27
_INCHES_A_WORKLOAD = 0.5
_PASSES = ("forward", "backward")


def overhead_figure(result: Mapping[str, Any], form: str) -> bytes:
    """What every arm adds to the baseline, with its interval, and the limit.

    Args:
        result: of the overhead suite, of steps or of epochs.
        form: ``"png"`` or ``"svg"``.
    """
    overheads = {name: arm["overhead_percent"] for name, arm in result["arms"].items() if arm["overhead_percent"]}
    limit = result["settings"]["limit"]
    return _bars(overheads, "% more than the baseline", limit if limit < 1e3 else None, form)


def captured_figure(result: Mapping[str, Any], form: str) -> bytes:
    """What every captured step adds to the fastest baseline, with its interval.

    Args:
        result: of the captured suite.
        form: ``"png"`` or ``"svg"``.
    """
    overheads = {name: step["overhead_percent"] for name, step in result["steps"].items() if step["overhead_percent"]}
    return _bars(overheads, f"% more than “{result['best_baseline']}”", None, form)


def _bars(overheads: Mapping[str, Interval], label: str, limit: float | None, form: str) -> bytes:
    with style(LIGHT):
        figure = Figure(figsize=(7.2, _INCHES_A_ROW * len(overheads) + 0.9), layout="constrained")
        axes = figure.add_subplot()
        for place, (name, one) in enumerate(overheads.items()):
            colour = LIGHT.invariance if name.startswith("ours") else LIGHT.baseline
            axes.barh(place, one["median"], height=0.62, color=colour, zorder=2)
            axes.hlines(place, one["low"], one["high"], color=LIGHT.ink, linewidth=1.2, zorder=3)
            axes.annotate(
                f"{one['median']:+.1f} %",
                (max(one["high"], 0), place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                bbox={"facecolor": LIGHT.paper, "edgecolor": "none", "pad": 1},
            )
        axes.axvline(0, color=LIGHT.ink, linewidth=0.8)
        if limit is not None:
            axes.axvline(limit, color=LIGHT.ink, linewidth=0.8, linestyle=(0, (1, 3)))
            axes.annotate(
                f"limit {limit:g} %",
                (limit, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(overheads)), list(overheads))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(overheads) - 0.4, -0.6)  # the first on top
        axes.margins(x=0.12)
        _grid(axes, "x")
        axes.set_xlabel(label)
        return render(figure, form)


def scores_figure(result: Mapping[str, Any], form: str) -> bytes:
    """Times as multiples of the forward passes over the number of images, with their intervals, and the limit.

    Args:
        result: of the scores suite.
        form: ``"png"`` or ``"svg"``.
    """
    lines: dict[str, dict[int, Interval]] = {}
    for n_images, size in result["sizes"].items():
        for name, arm in size["arms"].items():
            if arm["ratio_to_forward"]:
                lines.setdefault(name, {})[int(n_images)] = arm["ratio_to_forward"]
        if size["streaming_without_augmentation"]:
            lines.setdefault("streaming without augmentation", {})[int(n_images)] = size[
                "streaming_without_augmentation"
            ]
    sizes = [int(n_images) for n_images in result["sizes"]]
    with style(LIGHT):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(lines.items()):
            apart = 1.02 ** (number - (len(lines) - 1) / 2)  # so that intervals do not hide each other
            middle = np.array([one["median"] for one in points.values()])
            reach = [
                [one["median"] - one["low"] for one in points.values()],
                [one["high"] - one["median"] for one in points.values()],
            ]
            axes.errorbar([apart * n_images for n_images in points], middle, yerr=reach, label=name, **_line_of(name))
        axes.axhline(1, color=LIGHT.ink, linewidth=0.8)
        limit = result["settings"]["limit"]
        axes.axhline(limit, color=LIGHT.ink, linewidth=0.8, linestyle=(0, (1, 3)), label=f"limit {limit:g}")
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0)
        _grid(axes, "y")
        axes.set_xlabel("N, images scored")
        axes.set_ylabel("time / forward passes")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=8, borderpad=0)
        return render(figure, form)


def _line_of(name: str) -> dict[str, Any]:
    colour = {"published": LIGHT.baseline, "augmentation": LIGHT.more[2]}.get(name, LIGHT.invariance)
    style = (0, (4, 2)) if "without" in name else "-"
    return {"color": colour, "linestyle": style, "marker": "o", "markersize": 4, "linewidth": 1.2, "capsize": 2}


def kernels_figure(result: Mapping[str, Any], form: str) -> bytes:
    """GB/s of every method on every workload with their intervals, and what a copy reaches there.

    Args:
        result: of the kernels suite.
        form: ``"png"`` or ``"svg"``.
    """
    by_dtype: dict[str, dict[str, Any]] = {}
    for key, workload in result["workloads"].items():
        name = key.removesuffix(f" {workload['dtype']}") + ("" if workload["beyond_cache"] else "*")
        by_dtype.setdefault(workload["dtype"], {})[name] = workload
    workloads = [one for group in by_dtype.values() for one in group.values()]
    methods = list(dict.fromkeys(name for one in workloads for name, m in one["methods"].items() if m["passes"]))
    looks = _looks(methods)
    with style(LIGHT):
        heights = [len(group) for group in by_dtype.values()]
        figure = Figure(figsize=(8.6, _INCHES_A_WORKLOAD * sum(heights) + 0.7 * len(heights) + 1), layout="constrained")
        panels = figure.subplots(
            len(by_dtype), len(_PASSES), sharex=True, sharey="row", squeeze=False, height_ratios=heights
        )
        for (dtype, group), row in zip(by_dtype.items(), panels, strict=True):
            for direction, panel in zip(_PASSES, row, strict=True):
                _dots(panel, group, direction, looks)
                panel.set_title(f"{direction}, {dtype}")
            row[0].set_yticks(range(len(group)), list(group))
            row[0].set_ylim(len(group) - 0.4, -0.6)
        for panel in panels[-1]:
            panel.set_xlabel("GB/s")
        ceiling = Line2D([], [], color=LIGHT.ink, linestyle="none", marker="|", markersize=11, label="copy")
        handles = [Line2D([], [], linestyle="none", label=name, **look) for name, look in looks.items()]
        figure.legend(handles=[ceiling, *handles], loc="outside lower center", ncols=5, fontsize=8)
        return render(figure, form)


def _looks(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Ours in blues and green, the published way in orange; a hollow mark includes the ReLU, a triangle is by pairs."""
    palette = {
        "triton": LIGHT.invariance,
        "triton-pairwise": LIGHT.invariance,
        "native": LIGHT.more[0],
        "torch": LIGHT.more[3],
        "reference": LIGHT.more[5],
        "published": LIGHT.baseline,
        "cdist": LIGHT.more[2],
        "closed-form": LIGHT.more[1],
        "compiled": LIGHT.more[4],
        "metric-learning": LIGHT.more[2],
        "relu": LIGHT.ink,
    }
    by_pairs = ("triton-pairwise", "metric-learning")  # beside another method of their colour
    return {
        name: {
            "color": palette.get(name.removeprefix("relu+"), LIGHT.more[-1]),
            "marker": "^" if name.removeprefix("relu+") in by_pairs else "s" if name.startswith("relu") else "o",
            "markerfacecolor": "none" if name.startswith("relu") else None,
            "markersize": 4,
        }
        for name in methods
    }


def _dots(panel: Axes, workloads: Mapping[str, Any], direction: str, looks: Mapping[str, Mapping[str, Any]]) -> None:
    shifts = dict(zip(looks, np.linspace(-0.32, 0.32, len(looks)), strict=True))  # so that none hides another
    for row, workload in enumerate(workloads.values()):
        copy = workload["copy_gigabytes_per_second"]
        panel.plot([copy, copy], [row - 0.4, row + 0.4], color=LIGHT.ink, linewidth=1.2, zorder=2)
        for name, method in workload["methods"].items():
            if method["passes"]:
                one, place = method["passes"][direction], row + shifts[name]
                share = one["percent_of_copy"]
                panel.hlines(
                    place, copy * share["low"] / 100, copy * share["high"] / 100, color=looks[name]["color"], zorder=3
                )
                panel.plot([one["gigabytes_per_second"]], [place], linestyle="none", zorder=4, **looks[name])
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1,)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.tick_params(axis="y", length=0)
    _grid(panel, "both")


def _grid(axes: Axes, lines: Literal["x", "y", "both"]) -> None:
    axes.grid(True, axis=lines, color=LIGHT.faint, linewidth=0.8)
    axes.set_axisbelow(True)
