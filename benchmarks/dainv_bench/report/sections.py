"""What a report says about each kind of result, and how its numbers are to be read."""

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
        reading: how its numbers are to be read.
        together: whether all results share a table.
    """

    title: str
    markdown: Callable[[Any], str]
    legend: Callable[[Any], Sequence[str]] = lambda _result: ()
    figure: Callable[[Any, str], bytes] | None = None
    alt: str = ""
    reading: str = ""
    together: bool = False

    def groups(self, entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
        """Each table with the results that it shows."""
        if self.together:
            return [(self.markdown([entry.result for entry in entries]), list(entries))]
        return [(self.markdown(entry.result), [entry]) for entry in entries]


def _summarised(
    title: str,
    summarise: Callable[[Any], Summary],
    figure: Callable[[Any, str], bytes] | None = None,
    alt: str = "",
    reading: str = "",
) -> Section:
    return Section(
        title,
        markdown=lambda result: summary_markdown(summarise(result)),
        legend=lambda result: summarise(result).legend,
        figure=figure,
        alt=alt,
        reading=reading,
    )


def _resources(results: Any) -> str:
    return resources_markdown(newest_first(results))


_BARS = "Bars: the overhead of every arm with its 95 % interval"
_POINTS = "Points: GB/s of every method on all features, beside a copy"
_RATIOS = "Lines: time over that of the forward passes, over N"
_POWERS = "Lines: times over each axis and their power laws, log-log"

# How the numbers of a section are to be read, and why some of them disappoint.
_STEPS = (
    "The objective reads every activation again and adds to its gradient; no convolution does more work. What it "
    "costs on a CPU is therefore memory traffic. Tensors of tens of megabytes, as the first two layers make them, "
    "are the expensive ones: the C library gives them back to the operating system when they are freed, and their "
    "next pages have to be mapped and cleared first. Whoever makes more of them, as `closed-form` and the matrices "
    "of distances do, pays for that beside the arithmetic. `--allocator kept` measures the same where the C "
    "library keeps the memory, as it does in `dainv train`."
)
_STEPS_KEPT = (
    "The same steps in a process that never gives memory back to the operating system, as `dainv train` runs. All "
    "arms are faster, the baseline too. Whoever makes large temporary tensors gains most, so the overheads of the "
    "others come closer to what their arithmetic and memory traffic cost."
)
_EPOCHS = (
    "Drawing and augmenting the batches is part of an epoch and costs every arm the same. Epochs are long and so "
    "their rounds few: an interval that contains 0 says that the difference is lost in the machine's noise, and a "
    "negative overhead is that noise, too."
)
_KERNELS = (
    "These are calls of the operator alone, one after the other; what a training step pays is above. Where "
    "features are few, a call costs what torch takes to dispatch its operations and to record them for autograd, "
    "a few hundred microseconds of which the arithmetic is a small part, so plain autograd can be as fast or "
    "faster there. Where features are many, results that do not fit into what the C library keeps come as fresh "
    "pages of the operating system, and clearing these limits everyone, the bare `relu` too; the copy writes to "
    "memory that is there."
)
_SCORES = (
    "`published` makes one forward pass fewer, since it keeps the activations, and its N × N matrices are small at "
    "first: it can be faster where N is small. Its memory grows with N, and its matrices with N²; what streaming "
    "holds grows with the batch and not with N. The sums read every activation whatever the convolutions cost: of a "
    "narrow network, whose convolutions are cheap, they are a larger share."
)
_SCALING = (
    "An exponent describes the range measured: 1 means that twice as much costs twice as much. It is smaller where "
    "the fixed cost of a call weighs, and larger where data stop fitting into a cache or into what the C library "
    "keeps. Ranks share one batch and as many threads as there are cores: with more ranks than cores they "
    "take turns, and all of them wait for the last."
)

SECTIONS = {
    "overhead": _summarised("Overhead of a training step", overhead.summarise, overhead_figure, _BARS, _STEPS),
    "overhead-kept": _summarised(
        "Overhead of a training step, memory kept", overhead.summarise, overhead_figure, _BARS, _STEPS_KEPT
    ),
    "overhead-epoch": _summarised("Overhead of an epoch", overhead.summarise, overhead_figure, _BARS, _EPOCHS),
    "overhead-epoch-kept": _summarised("Overhead of an epoch, memory kept", overhead.summarise, overhead_figure, _BARS),
    "captured": _summarised("Overhead of a captured step", captured.summarise, captured_figure, _BARS),
    "training": _summarised("Steps of training", training.summarise),
    "kernels": Section("Kernels", kernels_markdown, kernels_legend, kernels_figure, _POINTS, _KERNELS),
    "scores": _summarised("Invariance scores", scores.summarise, scores_figure, _RATIOS, _SCORES),
    "scaling": _summarised("Growth of cost", scaling.summarise, scaling_figure, _POWERS, _SCALING),
    "launches": _summarised("Launches of a training step", summarise_launches),
    "kernel-resources": Section("Resources of the kernels", _resources, together=True),
    "gpu-check": Section("GPU check", gpu_check_markdown),
}
