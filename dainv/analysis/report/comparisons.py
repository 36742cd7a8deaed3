"""The tables that compare: runs image by image, arms seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dainv.analysis.comparison import Comparison, RunComparison
from dainv.analysis.report import html
from dainv.formatting import capital, interval, p_value, short_layer, signed

_IMAGES_NOTE = (
    "Difference: of the median σ, with its bootstrap interval, from the same images and transformations of each. "
    "Higher: share of the images whose mean σ over the transformations is higher, of those that differ. <i>r</i>: "
    "matched-pairs rank-biserial correlation, from −1 (every image lower) over 0 to 1 (every image higher). <i>p</i>: "
    "Wilcoxon signed-rank test over images, two-sided, after Holm’s correction over the layers. With many images a "
    "difference too small to matter has a small <i>p</i> too: read <i>r</i> and the difference first."
)


def comparisons_section(comparisons: Sequence[Comparison]) -> str:
    """Nothing where nothing is compared."""
    if not comparisons:
        return ""
    parts = []
    for comparison in comparisons:
        title = f"{comparison.other.label} minus {comparison.reference.label}"
        if comparison.seeds:
            parts.append(f"<h3>{escape(capital(title))}, over seeds</h3>{_seeds_table(comparison)}")
        for pair in comparison.pairs:
            table = _images_table(pair)
            if len(comparison.pairs) == 1:
                parts.append(f"<h3>{escape(capital(title))}, image by image</h3>{table}")
            else:
                name = f"{pair.other.label} minus {pair.reference.label}, image by image"
                parts.append(html.folded(capital(name), table, opened=False))
    return html.section("Comparison", *parts, html.note(_IMAGES_NOTE))


def _images_table(pair: RunComparison) -> str:
    reference, other = pair.reference, pair.other
    rows = [
        (
            html.Cell(escape(short_layer(layer)), place),
            html.value(reference.summaries[layer].median.value),
            html.value(other.summaries[layer].median.value),
            html.estimate(pair.differences[layer], sign=True),
            html.Cell(f"{100 * test.higher:.1f} %", test.higher),
            html.value(test.effect, 2, sign=True),
            html.Cell(escape(p_value(test.p_holm)), test.p_holm),
        )
        for place, (layer, test) in enumerate(pair.tests.items())
    ]
    header = (
        "Layer",
        escape(reference.label),
        escape(other.label),
        "Difference",
        "Higher",
        "<i>r</i>",
        "<i>p</i> (Holm)",
    )
    return html.table(header, rows, f"{other.label} minus {reference.label}, image by image")


def _seeds_table(comparison: Comparison) -> str:
    rows = []
    for place, (layer, found) in enumerate(comparison.seeds.items()):
        rows.append(
            (
                html.Cell(escape(short_layer(layer)), place),
                html.value(comparison.reference.medians[layer].value),
                html.value(comparison.other.medians[layer].value),
                html.Cell(signed(found.value, 3), found.value),
                html.Cell(interval(found, 3), found.low),
                html.Cell(f"{found.same_sign} of {found.pairs}", found.same_sign),
                html.Cell(escape(p_value(found.p_holm)), found.p_holm),
            )
        )
    one, other = comparison.reference, comparison.other
    header = (
        "Layer",
        escape(one.label),
        escape(other.label),
        "Difference",
        "t interval",
        "Same sign",
        "<i>p</i> (Holm)",
    )
    how = "paired by seed" if any(found.paired for found in comparison.seeds.values()) else "Welch’s"
    return html.table(header, rows, f"{other.label} minus {one.label} over seeds") + html.note(
        f"Means over {one.n} and {other.n} runs of the median σ, their difference with its t interval ({how}), in how "
        "many pairs of runs the difference has this sign, and the t test after Holm’s correction over the layers."
    )
