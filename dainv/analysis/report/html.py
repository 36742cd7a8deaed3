"""The pieces of HTML that the report is made of."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from dainv.formatting import interval, number, signed
from dainv.summaries import Estimate


class Drawing(NamedTuple):
    """A figure as SVG, on light and on dark paper."""

    light: bytes
    dark: bytes


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        html: what it shows.
        value: what its column is sorted by; as text where not given.
    """

    html: str
    value: float | None = None


def text(sentence: str) -> str:
    """A sentence as HTML; a range such as 1–3 and a share such as 5 % are kept on one line."""
    return escape(sentence).replace("–", "\u2060–\u2060").replace(" %", "\u00a0%").replace("r = ", "r\u00a0=\u00a0")


def data_url(content: bytes, kind: str) -> str:
    """A file within the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def figure(drawing: Drawing, alt: str, caption: str) -> str:
    """A drawing for light and one for dark screens; paper gets the light one."""
    light, dark = (data_url(vector, "image/svg+xml") for vector in drawing)
    return (
        '<figure><div class="scroll" tabindex="0" role="group" aria-label="Figure"><picture>'
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(alt)}"></picture></div><figcaption>{caption}</figcaption></figure>'
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Cell | str]], name: str) -> str:
    """A table that a reader can sort by a click on a column's name, where scripts run.

    Args:
        header: names of the columns, as HTML.
        rows: cells, as HTML; the first of a row names it.
        name: what the table is called by those who do not see it.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    lines = []
    for row in rows:
        first, *others = (cell if isinstance(cell, Cell) else Cell(cell) for cell in row)
        lines.append(
            f'<tr><th scope="row"{_sort(first)}>{first.html}</th>'
            + "".join(f"<td{_sort(cell)}>{cell.html}</td>" for cell in others)
            + "</tr>"
        )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _sort(cell: Cell) -> str:
    return "" if cell.value is None or not math.isfinite(cell.value) else f' data-sort="{cell.value:.9g}"'


def value(number_: float, digits: int = 3, *, sign: bool = False) -> Cell:
    """A number as a cell."""
    return Cell(signed(number_, digits) if sign else number(number_, digits), number_)


def estimate(found: Estimate, *, sign: bool = False) -> Cell:
    """A number with its interval as a cell."""
    shown = signed(found.value, 3) if sign else number(found.value, 3)
    return Cell(f"{shown} <small>({interval(found, 3)})</small>", found.value)


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """A list of terms and what they are; the terms are text, the rest is HTML."""
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{said}</dd>' for term, said in items)}</dl>"


def code(content: object) -> str:
    """Something to be read letter by letter."""
    return f"<code>{escape(str(content))}</code>"


def section(title: str, *parts: str) -> str:
    """A part of the page."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def note(content: str) -> str:
    """What explains a table, as HTML."""
    return f'<p class="note">{content}</p>'


def folded(title: str, content: str, *, opened: bool) -> str:
    """Something that a reader may open."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{content}</details>"


def downloads(files: Mapping[str, bytes]) -> str:
    """Links to files within the page."""
    kinds = {"csv": "text/csv", "json": "application/json"}
    links = (
        f'<a download="{escape(name)}" href="{data_url(content, kinds[name.rpartition(".")[2]])}">{escape(name)}</a> '
        f"<small>{max(1, round(len(content) / 1024)):,} kB</small>"
        for name, content in files.items()
    )
    return f'<p class="downloads">Data: {" · ".join(links)}</p>'
