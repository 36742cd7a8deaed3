"""The page: the summary in Markdown. The docs' tables are made by the same functions from a committed summary.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dainv.formatting import commit_name, listed, number, short_layer, signed

Summary = Mapping[str, Any]


def report(found: Summary) -> str:
    """Everything, with the figures beside it."""
    parts = [
        "# Reproduction",
        scope(found),
        *_doubts(found),
        "## Claim by claim",
        *claims(found),
        "Intervals are 95 % intervals over images and span those of all seeds; that of the accuracy is over seeds from "
        "three on.",
        "## Accuracy",
        *accuracy(found),
        "## Figure 1: invariance scores",
        "![Figure 1, published and here](figure1.svg)",
        f"Open boxes: published. Full boxes: here{_means(found, 'each seed as a point')}. Whiskers: the last score "
        f"within 1.5 interquartile ranges of the box. {_pixels(found)}",
        *scores(found),
        "## Figure 2: loss dynamics",
        "![Figure 2, published and here](figure2.svg)",
        "Points: read off the published figure, joined by lines above. Lines below: here"
        f"{_means(found, 'bands from the lowest seed to the highest')}.",
        *losses(found),
        *(["## Which recipe?", *variants(found)] if found["variants"] else []),
        "## Made with",
        *provenance(found),
    ]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def scope(found: Summary) -> str:
    """What the verdicts are about."""
    n = len(found["seeds"])
    seeds = f"{n} seed{'s' if n > 1 else ''} an arm"
    name = found["data"]["name"]
    data = name if name == "cifar10" else f"{name} (the paper's data are CIFAR-10)"
    options = changed_options(found)
    recipe = f"the published recipe but for `{options}`" if options else "the published recipe"
    text = f"{seeds} on {data}, {found['epochs']} of the published {found['published_epochs']} epochs, {recipe}."
    if is_scaled(found):
        text = (
            f"**Scaled: {text}** The paper's claims are about networks trained by its recipe for "
            f"{found['published_epochs']} epochs. What is said here is about these runs only, and can neither bear out "
            "the paper nor refute it; what it says of time was measured by itself, by `dainv-bench overhead`."
        )
    if n > 2:
        return text
    return f"{text} How much seeds differ is not known from one{'' if n == 1 else ', and hardly from two'}."


def is_scaled(found: Summary) -> bool:
    """Whether these are not the paper's runs."""
    whole = found["epochs"] >= found["published_epochs"]
    return not whole or bool(found["changed_settings"]) or found["data"]["name"] != "cifar10"


def changed_options(found: Summary) -> str:
    """What is not as in the published recipe, as options of `dainv train`."""
    return " ".join(_option(name, value) for name, value in found["changed_settings"].items())


def _option(name: str, value: Any) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {','.join(map(str, value)) if isinstance(value, list) else value}"


def _doubts(found: Summary) -> list[str]:
    return ["\n".join(f"- {warning}" for warning in found["warnings"])] if found["warnings"] else []


def claims(found: Summary) -> list[str]:
    """A row a claim."""
    rows = [
        (claim["statement"], f"**{claim['verdict']}**", claim["because"], claim["criterion"])
        for claim in found["claims"]
    ]
    return [table(["the paper", "in these runs" if is_scaled(found) else "verdict", "numbers", "asked of them"], rows)]


def accuracy(found: Summary) -> list[str]:
    """A row a run."""
    rows = []
    for arm, entry in found["accuracy"].items():
        paper, thesis = (f"{entry[f'{source}_percent']} %" for source in ("paper", "thesis"))
        for run in entry["runs"]:
            own = f"{100 * run['value']:.2f} % ({100 * run['low']:.2f} to {100 * run['high']:.2f} %)"
            rows.append((arm, str(run["seed"]), paper, thesis, own))
        if len(entry["runs"]) > 1:
            shares = [100 * run["value"] for run in entry["runs"]]
            own = f"{np.mean(shares):.2f} % (lowest {min(shares):.2f} %, highest {max(shares):.2f} %)"
            rows.append((arm, f"mean of {len(shares)}", paper, thesis, own))
    note = "The paper's numbers are of one run each. In brackets: 95 % interval over the test images (Wilson)."
    return [table(["arm", "seed", "paper", "thesis", "here"], rows), note]


def _means(found: Summary, spread: str) -> str:
    return f", means over {len(found['seeds'])} seeds, {spread}" if len(found["seeds"]) > 1 else ""


def _pixels(found: Summary) -> str:
    medians = [value for values in found["pixels"].values() for value in values]
    return f"The median σ of the pixels is {number(float(np.mean(medians)))} here." if medians else ""


def scores(found: Summary) -> list[str]:
    """Medians of Figure 1, published and ours, a row a layer."""
    arms = found["scores"]
    rows = []
    for layer in dict.fromkeys(layer for arm in arms.values() for layer in arm):
        row = [short_layer(layer)]
        for arm in arms.values():
            entry = arm.get(layer)
            if entry is None:
                row += ["", "", "no score"]
                continue
            ends = " to ".join(signed(entry[f"difference_{end}"], 3) for end in ("low", "high"))
            seeds = entry.get("medians", [])  # not in the first summaries that were committed
            spread = f" ({number(min(seeds), 3)} to {number(max(seeds), 3)})" if len(seeds) > 1 else ""
            row += [number(entry["published_median"], 3), f"{number(entry['median'], 3)}{spread}"]
            row += [f"{signed(entry['difference'], 3)} ({ends})"]
        rows.append(row)
    note = "Median σ by layer. In brackets: of a difference, its 95 % interval over images"
    note += ", spanning those of all seeds; of ours, the lowest and highest seed." if len(found["seeds"]) > 1 else "."
    header = ["layer", *(f"{arm}: {what}" for arm in arms for what in ("paper", "here", "difference"))]
    return [note, table(header, rows)]


def losses(found: Summary) -> list[str]:
    """Ours minus published at the epochs that both have, a row a layer and a table an arm."""
    parts = []
    for arm, epochs in found["losses"].items():
        if not epochs:
            continue
        columns = list(epochs.values())
        rows = [[str(layer + 1), *(signed(values[layer]) for values in columns)] for layer in range(len(columns[0]))]
        rows.append(["root mean square", *(f"{np.sqrt(np.mean(np.square(values))):.2f}" for values in columns)])
        parts.append(f"{arm.capitalize()}, ours minus published, by epoch of the figure (counted from 0):")
        parts.append(table(["layer", *epochs], rows))
    if found["epochs"] < found["published_epochs"]:
        parts.append(
            "The learning rate falls with the length of the run, so the last epochs of a scaled run are not at the "
            "published learning rate of these epochs."
        )
    return parts


def variants(found: Summary) -> list[str]:
    """A row a variant, the nearest first."""
    rows = []
    for variant in found["variants"]:
        shown = {arm: ", ".join(f"{value:.3f}" for value in values) for arm, values in variant["by_arm"].items()}
        rows.append((variant["variant"], *shown.values(), f"{np.mean(variant['overall']):.3f}"))
    arms = list(found["variants"][0]["by_arm"])
    return [
        "Root mean square distance of the losses to Figure 2 over layers and the first epochs, by arm (one number a "
        "seed) and over both. Published values are read to ±.01. Losses of Eq. 3 as printed are compared as means over "
        "pairs; as logged they are larger by a constant factor.",
        table(["variant", *arms, "both"], rows),
        found["nearest_variant"],
    ]


def provenance(found: Summary) -> list[str]:
    """With what, from what."""
    data, scoring, machine = found["data"], found["scoring"], found["environment"]
    rows = [
        *(("trained with commit", f"{name}: {listed(of)}") for name, of in found["trained_with_commits"].items()),
        ("page made with commit", commit_name(machine)),
        ("data", f"{data['name']}, {data['n_train']:,} training and {data['n_test']:,} test images"),
        ("SHA-256 of the data", data["sha256"]),
        ("scores", f"{scoring['images']:,} test images, {scoring['repeats']} × {scoring['transform']}"),
        ("machine", ", ".join(machine["cuda_devices"]) or f"{machine['cpu']}, {machine['cpu_count']} cores"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in machine["libraries"].items() if version)),
    ]
    return [table(["", ""], rows)]
