"""Scores for people: a table a size that fits 80 columns, and the same in Markdown."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dainv_bench.scores.suite import ArmResult, ScoresResult
from dainv_bench.statistics import Interval

_HEADINGS = ("N", "arm", "time", "× forward", "95 % interval", "memory")


def _range(value: Interval | None) -> str:
    return f"{value['low']:.3f} to {value['high']:.3f}" if value else "–"


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.2f} s" if milliseconds >= 1e3 else f"{milliseconds:.0f} ms"


def _row(name: str, arm: ArmResult) -> list[str]:
    if arm["not_run"] is not None or arm["median_milliseconds"] is None:
        return [name, "not run", "–", "–", "–"]
    ratio, memory = arm["ratio_to_forward"], arm["peak_memory_bytes"]
    return [
        name,
        _duration(arm["median_milliseconds"]),
        f"{ratio['median']:.3f}" if ratio else "–",
        _range(ratio),
        "–" if memory is None else f"{memory / 2**20:.0f} MiB",
    ]


def _rows(result: ScoresResult) -> list[list[str]]:
    return [
        [n_images, *_row(name, arm)] for n_images, size in result["sizes"].items() for name, arm in size["arms"].items()
    ]


def _without_augmentation(result: ScoresResult) -> list[str]:
    """A line for each size where it is known."""
    return [
        f"streaming without augmentation, N = {n_images}: {ratio['median']:.3f} × forward ({_range(ratio)})"
        for n_images, size in result["sizes"].items()
        if (ratio := size["streaming_without_augmentation"]) is not None
    ]


def _title(result: ScoresResult) -> str:
    settings = result["settings"]
    norm = " with batch norm" if settings["batch_norm"] else ""
    width = "" if settings["width"] == 1 else f", width {settings['width']:g}"
    return (
        f"Invariance scores of All-CNN-C{norm}{width}, 9 layers and the pixels, {settings['repeats']} transformations, "
        f"batches of {settings['batch_size']}, {settings['dtype']}"
    )


def _rounds(result: ScoresResult) -> str:
    """How many rounds were finished, where Ctrl-C ended them at the last size."""
    counts = sorted({len(size["orders"]) for size in result["sizes"].values()})
    return " to ".join(str(count) for count in counts)


def print_scores(console: Console, result: ScoresResult) -> None:
    """The table of ``dainv-bench scores``, what to know about it, and the verdict."""
    settings = result["settings"]
    console.print(Text(f"{_title(result)}, {settings['device']}"), soft_wrap=True)
    table = Table()
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True, justify="left" if heading == "arm" else "right")
    before = None
    for row in _rows(result):
        if before is not None and row[0] != before:
            table.add_section()
        table.add_row("" if row[0] == before else row[0], *row[1:])
        before = row[0]
    console.print(table)
    for line in _without_augmentation(result):
        console.print(Text(line))
    for n_images, size in result["sizes"].items():
        for name, arm in size["arms"].items():
            if arm["not_run"] is not None:
                console.print(Text(f"{name} not run for N = {n_images}: {arm['not_run']}"), soft_wrap=True)
    stopped = f", interrupted before all of {settings['sizes']} were done" if result["interrupted"] else ""
    console.print(Text(f"medians of {_rounds(result)} rounds{stopped}"), soft_wrap=True)
    load_before, load_after = result["load_average"]["before"], result["load_average"]["after"]
    if load_before and load_after:
        cpus = result["environment"]["cpu_count"]
        console.print(Text(f"load average {load_before[0]:.2f} before, {load_after[0]:.2f} after, on {cpus} CPUs"))
    console.print(Text(_verdict_line(result), style="bold"), soft_wrap=True)


def _verdict_line(result: ScoresResult) -> str:
    verdict = result["verdict"]
    if verdict is None:
        return "no verdict: streaming was not run"
    ratio = verdict["ratio_to_forward"]
    words = {
        "within": "within the limit of",
        "above": "above the limit of",
        "undecided": "undecided: the interval contains the limit of",
    }
    return (
        f"streaming {verdict['n_images']} images costs {ratio['median']:.3f} times the bare forward passes "
        f"(95 %: {ratio['low']:.3f} to {ratio['high']:.3f}), {words[verdict['verdict']]} {verdict['limit']:g}"
    )


def scores_markdown(result: ScoresResult) -> str:
    """The same in Markdown, for a README."""
    settings, environment = result["settings"], result["environment"]
    where = f"{environment['cpu_count']} CPU cores ({environment['cpu']})"
    if settings["device"] != "cpu":
        where = ", ".join(environment["cuda_devices"])
    caption = (
        f"{_title(result)}, on {where}, torch {environment['libraries']['torch']}; medians of {_rounds(result)} "
        "rounds, ratios paired within rounds."
    )
    rows = [f"| {' | '.join(_HEADINGS)} |", f"|{'---|' * len(_HEADINGS)}"]
    for n_images, name, *cells in _rows(result):
        rows.append(f"| {n_images} | `{name}` | {' | '.join('' if cell == '–' else cell for cell in cells)} |")
    notes = [f"- {line}" for line in _without_augmentation(result)]
    return "\n".join([caption, "", *rows, *(["", *notes] if notes else [])]) + "\n"
