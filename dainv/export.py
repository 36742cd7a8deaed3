"""Tables and values for other programs: CSV and JSON, in one form everywhere."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from dainv.runs import write_atomically


def missing(value: object) -> bool:
    """Whether there is no value, or no finite one."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def csv_of(header: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    """CSV; what is missing is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if missing(value) else value for value in row] for row in rows)
    return text.getvalue().encode()


def json_of(value: object) -> bytes:
    """JSON, indented.

    Raises:
        ValueError: NaN or an infinite number, which JSON does not have.
    """
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_file(path: Path, content: bytes) -> None:
    """Write all of a file or nothing."""
    write_atomically(path, lambda file: file.write(content))
