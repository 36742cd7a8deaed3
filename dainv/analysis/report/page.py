"""The page as a whole: what was found first, then the figures, the numbers, and how they were made."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dainv.analysis.arms import kind
from dainv.analysis.comparison import Comparison
from dainv.analysis.findings import Finding
from dainv.analysis.report import html
from dainv.analysis.report.captions import dynamics_alt, dynamics_caption, scores_alt, scores_caption
from dainv.analysis.report.comparisons import comparisons_section
from dainv.analysis.report.losses import losses_section
from dainv.analysis.report.provenance import provenance_section
from dainv.analysis.report.scores import runs_section, scores_section
from dainv.analysis.report.script import SCRIPT
from dainv.analysis.report.stylesheet import STYLESHEET
from dainv.analysis.results import Arm
from dainv.formatting import capital, listed


def report_html(
    arms: Sequence[Arm],
    comparisons: Sequence[Comparison],
    findings: Sequence[Finding],
    warnings: Sequence[str],
    environment: dict[str, Any],
    figures: tuple[html.Drawing, html.Drawing],
    downloads: Mapping[str, bytes],
) -> str:
    """The page.

    Args:
        arms: in the order of the figures.
        comparisons: of the others with the reference.
        findings: sentences by topic.
        warnings: what makes a result doubtful.
        environment: what the analysis was made with.
        figures: Figures 1 and 2.
        downloads: file name -> content of what a reader can save from the page.
    """
    title = _title(arms)
    body = [
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(_lead(arms))}</p>',
        html.downloads(downloads) + "</header>",
        "<main>",
        _caveats(warnings),
        _findings(findings),
        runs_section(arms),
        html.figure(figures[0], scores_alt(arms), scores_caption(arms)),
        html.figure(figures[1], dynamics_alt(arms), dynamics_caption(arms)),
        comparisons_section(comparisons),
        scores_section(arms),
        losses_section(arms),
        provenance_section(arms, environment),
        "</main>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLESHEET}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _policy() -> str:
    """What a browser lets the page do: show what is in it, run its own script, and ask nothing of the network."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _title(arms: Sequence[Arm]) -> str:
    runs = [run for arm in arms for run in arm.runs]
    if len(runs) <= 3:
        return f"Invariance of {listed([run.name for run in runs])}"
    return (
        f"Invariance of {len(runs)} runs: {listed([arm.label for arm in arms])}"
        if len(arms) <= 3
        else (f"Invariance of {len(runs)} runs in {len(arms)} arms")
    )


def _lead(arms: Sequence[Arm]) -> str:
    source = arms[0].runs[0].source
    data = " and ".join(dict.fromkeys(run.data for arm in arms for run in arm.runs))
    whose = ". ".join(
        f"{capital(arm.label)}: {listed([run.name for run in arm.runs])}"
        + ("" if arm.label == kind(arm.runs[0].config) else f" ({kind(arm.runs[0].config)})")
        for arm in arms
    )
    return (
        f"{whose}. {source.images:,} test images of {data}, {source.repeats} transformations of each "
        f"(scheme {source.transform}). Intervals are 95 % intervals."
    )


def _findings(findings: Sequence[Finding]) -> str:
    topics = dict.fromkeys(finding.topic for finding in findings)
    parts = []
    for topic in topics:
        items = "".join(f"<li>{html.text(said.sentence)}</li>" for said in findings if said.topic == topic)
        parts.append(f"<section><h2>{escape(topic)}</h2><ul>{items}</ul></section>")
    return f'<div class="findings">{"".join(parts)}</div>'


def _caveats(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<div class="doubts"><strong>Before reading on</strong><ul>{items}</ul></div>'
