"""The document: sections in a fixed order, each with tables, notes, figures and where the numbers come from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dainv.runs import write_atomically
from dainv_bench.provenance import provenance
from dainv_bench.report.entries import Entry
from dainv_bench.report.sections import SECTIONS, Section
from dainv_bench.results import kind_of
from dainv_bench.summary import markdown_list

_FORMS = ("svg", "png")
_METHODS = Path("benchmarks/README.md")


def by_kind(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries in the order of the sections."""
    kinds = {kind: [entry for entry in entries if kind_of(entry.result) == kind] for kind in SECTIONS}
    return {kind: found for kind, found in kinds.items() if found}


def write_report(document: Path, entries: Sequence[Entry]) -> list[Path]:
    """Write the document, and its figures into a folder beside it that is called as the document is.

    Args:
        document: ``.md`` file.
        entries: what to show; the same entries give the same bytes.

    Returns:
        All files written, the document first.

    Raises:
        UserError: a file cannot be written.
    """
    files = {document: document_markdown(document, entries).encode()}
    for kind, found in by_kind(entries).items():
        draw = SECTIONS[kind].figure
        if draw is not None:
            for entry in found:
                for form in _FORMS:
                    files[_figure_path(document, entry, form)] = draw(entry.result, form)
    for path, content in files.items():
        write_atomically(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return list(files)


def document_markdown(document: Path, entries: Sequence[Entry]) -> str:
    """The text of the document.

    Args:
        document: where it will be, for links.
        entries: what to show.
    """
    parts = [
        "# Performance",
        f"Written by `dainv-bench report`; {_link('how this is measured', _METHODS, document)}.",
    ]
    for kind, found in by_kind(entries).items():
        section = SECTIONS[kind]
        parts += [f"## {section.title}", *filter(None, [section.reading])]
        for table, shown in section.groups(found):
            parts.append(table.rstrip("\n"))
            for entry in shown:
                parts += _about(section, entry, document)
    return "\n\n".join(parts) + "\n"


def _about(section: Section, entry: Entry, document: Path) -> list[str]:
    """Legend, figure and provenance of one result."""
    parts = []
    if not section.together and (legend := section.legend(entry.result)):
        parts += ["Who is who:", markdown_list(legend).rstrip("\n")]
    if section.figure is not None:
        vector, pixels = (_figure_path(document, entry, form).relative_to(document.parent) for form in _FORMS)
        parts.append(f"[![{section.alt}]({vector.as_posix()})]({pixels.as_posix()})")
    parts.append(f"{provenance(entry.result)} {_link(f'`{entry.path.name}`', entry.path, document)}")
    return parts


def _figure_path(document: Path, entry: Entry, form: str) -> Path:
    return document.with_suffix("") / f"{entry.name}.{form}"


def _link(text: str, target: Path, document: Path) -> str:
    """A link within the folder we are in; the text alone to and from elsewhere, whose paths mean nothing to others."""
    if any(path.is_absolute() or ".." in path.parts for path in (target, document)) or not target.is_file():
        return text
    return f"[{text}]({Path(os.path.relpath(target, document.parent)).as_posix()})"
