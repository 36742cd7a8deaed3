"""The generated blocks of the README: the tables of a kind of result, between marks that name the kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dainv_bench.blocks import rewrite_block
from dainv_bench.report.document import by_kind
from dainv_bench.report.entries import Entry
from dainv_bench.report.sections import SECTIONS

README = Path("README.md")


def readme_blocks(entries: Sequence[Entry]) -> dict[str, str]:
    """What stands in each block, should the README have it: kind of result -> its tables, one for each device."""
    blocks = {}
    for kind, found in by_kind(entries).items():
        section = SECTIONS[kind]
        tables = section.groups(found if section.together else _first_of_each_device(found))
        blocks[kind] = "\n".join(table for table, _ in tables)
    return blocks


def _first_of_each_device(entries: Sequence[Entry]) -> list[Entry]:
    """The document has the others too, such as one of fewer arms in more rounds."""
    found: dict[str, Entry] = {}
    for entry in entries:
        made_on, settings = entry.result["environment"], entry.result.get("settings", {})
        device = [settings.get("device"), made_on["cpu"], made_on["cpu_count"], made_on["cuda_devices"]]
        found.setdefault(str(device), entry)
    return list(found.values())


def rewrite_blocks(entries: Sequence[Entry]) -> list[str]:
    """Bring the README up to date with the results.

    Returns:
        The blocks that it has.

    Raises:
        UserError: it cannot be written.
    """
    return [name for name, content in readme_blocks(entries).items() if rewrite_block(README, name, content)]
