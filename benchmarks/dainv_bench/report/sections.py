"""What a report says about each kind of result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dainv_bench.overhead.table import overhead_markdown
from dainv_bench.report.entries import Entry
from dainv_bench.report.figures import captured_figure, kernels_figure, overhead_figure, scores_figure
from dainv_bench.report.tables import captured_markdown, gpu_check_markdown, kernels_markdown, launches_markdown
from dainv_bench.resources.suite import newest_first, resources_markdown
from dainv_bench.scaling.figure import scaling_figure
from dainv_bench.scaling.table import scaling_markdown
from dainv_bench.scores.table import scores_markdown


@dataclass(frozen=True)
class Section:
    """A kind of result.

    Attributes:
        title: its heading.
        markdown: caption and table of one result, or of all together.
        figure: draws one result, ``(result, "png" or "svg")``; None where there is nothing to draw.
        alt: what the figure shows, for those who do not see it.
        together: whether all results share a table.
    """

    title: str
    markdown: Callable[[Any], str]
    figure: Callable[[Any, str], bytes] | None = None
    alt: str = ""
    together: bool = False

    def groups(self, entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
        """Each table with the results that it shows."""
        if self.together:
            return [(self.markdown([entry.result for entry in entries]), list(entries))]
        return [(self.markdown(entry.result), [entry]) for entry in entries]


def _resources(results: Any) -> str:
    return resources_markdown(newest_first(results))


_OVERHEADS = "Bars: the overhead of every arm with its 95 % interval"

SECTIONS = {
    "overhead": Section("Overhead of a training step", overhead_markdown, overhead_figure, _OVERHEADS),
    "overhead-epoch": Section("Overhead of an epoch", overhead_markdown, overhead_figure, _OVERHEADS),
    "captured": Section("Overhead of a captured step", captured_markdown, captured_figure, _OVERHEADS),
    "kernels": Section(
        "Kernels", kernels_markdown, kernels_figure, "Points: GB/s of every method on all features, beside a copy"
    ),
    "scores": Section(
        "Invariance scores", scores_markdown, scores_figure, "Lines: time over that of the forward passes, over N"
    ),
    "scaling": Section(
        "Growth of cost", scaling_markdown, scaling_figure, "Lines: times over each axis and their power laws, log-log"
    ),
    "launches": Section("Launches of a training step", launches_markdown),
    "kernel-resources": Section("Resources of the kernels", _resources, together=True),
    "gpu-check": Section("GPU check", gpu_check_markdown),
}
