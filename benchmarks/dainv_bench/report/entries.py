"""Which results a report is made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dainv_bench.reading import read_result, stages_of
from dainv_bench.results import FOLDER


class Entry(NamedTuple):
    """A result, what its figures are called, and its file."""

    name: str
    path: Path
    result: dict[str, Any]


def committed_files(folder: Path = FOLDER) -> list[Path]:
    """All results in the folder; rehearsals are none."""
    return [path for path in sorted(folder.glob("*.json")) if "-quick--" not in path.name]


def read_entries(paths: Iterable[Path]) -> list[Entry]:
    """Read files, in their order; what a GPU check measured follows it as results of their own.

    Raises:
        UserError: one of them cannot be read.
    """
    found: list[Entry] = []
    for path in paths:
        result = read_result(path)
        name = path.stem
        while any(entry.name == name for entry in found):
            name += "-again"
        found.append(Entry(name, path, result))
        if result["environment"]["cuda_devices"]:  # without a GPU a check only rehearses
            found += [Entry(f"{name}--{stage}", path, one) for stage, one in stages_of(result, str(path)).items()]
    return found
