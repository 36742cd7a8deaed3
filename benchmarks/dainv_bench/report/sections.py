"""What a report says about each kind of result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dainv_bench.captured import summary as captured
from dainv_bench.gpu.summary import gpu_check_markdown, summarise_launches
from dainv_bench.kernels.summary import kernels_legend, kernels_markdown
from dainv_bench.overhead import summary as overhead
from dainv_bench.report.entries import Entry
from dainv_bench.report.figures import captured_figure, kernels_figure, overhead_figure, scores_figure
from dainv_bench.resources.results import newest_first
from dainv_bench.resources.summary import resources_markdown
from dainv_bench.scaling import summary as scaling
from dainv_bench.scaling.figure import scaling_figure
from dainv_bench.scores import summary as scores
from dainv_bench.summary import Summary, summary_markdown
from dainv_bench.training import summary as training


@dataclass(frozen=True)
class Section:
    """A kind of result.

    Attributes:
        title: its heading.
        markdown: caption and table of one result, or of all together.
        legend: lines that say who the names in its table stand for.
        figure: draws one result, ``(result, "png" or "svg")``; None where there is nothing to draw.
        alt: what the figure shows, for those who do not see it.
        together: whether all results share a table.
    """

    title: str
    markdown: Callable[[Any], str]
    legend: Callable[[Any], Sequence[str]] = lambda _result: ()
    figure: Callable[[Any, str], bytes] | None = None
    alt: str = ""
    together: bool = False

    def groups(self, entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
        """Each table with the results that it shows."""
        if self.together:
            return [(self.markdown([entry.result for entry in entries]), list(entries))]
        return [(self.markdown(entry.result), [entry]) for entry in entries]


def _summarised(
    title: str, summarise: Callable[[Any], Summary], figure: Callable[[Any, str], bytes] | None = None, alt: str = ""
) -> Section:
    return Section(
        title,
        markdown=lambda result: summary_markdown(summarise(result)),
        legend=lambda result: summarise(result).legend,
        figure=figure,
        alt=alt,
    )


def _resources(results: Any) -> str:
    return resources_markdown(newest_first(results))


_BARS = "Bars: the overhead of every arm with its 95 % interval"
_POINTS = "Points: GB/s of every method on all features, beside a copy"
_RATIOS = "Lines: time over that of the forward passes, over N"
_POWERS = "Lines: times over each axis and their power laws, log-log"

SECTIONS = {
    "overhead": _summarised("Overhead of a training step", overhead.summarise, overhead_figure, _BARS),
    "overhead-kept": _summarised(
        "Overhead of a training step, memory kept", overhead.summarise, overhead_figure, _BARS
    ),
    "overhead-epoch": _summarised("Overhead of an epoch", overhead.summarise, overhead_figure, _BARS),
    "overhead-epoch-kept": _summarised("Overhead of an epoch, memory kept", overhead.summarise, overhead_figure, _BARS),
    "captured": _summarised("Overhead of a captured step", captured.summarise, captured_figure, _BARS),
    "training": _summarised("Steps of training", training.summarise),
    "kernels": Section("Kernels", kernels_markdown, kernels_legend, kernels_figure, _POINTS),
    "scores": _summarised("Invariance scores", scores.summarise, scores_figure, _RATIOS),
    "scaling": _summarised("Growth of cost", scaling.summarise, scaling_figure, _POWERS),
    "launches": _summarised("Launches of a training step", summarise_launches),
    "kernel-resources": Section("Resources of the kernels", _resources, together=True),
    "gpu-check": Section("GPU check", gpu_check_markdown),
}
