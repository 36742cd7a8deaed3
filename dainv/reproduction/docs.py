"""Blocks of a Markdown page that committed reproductions fill: ``python -m dainv.reproduction.docs PAGE [PAGE...]``.

A block begins with ``<!-- reproduction: FOLDER -->`` and ends with ``<!-- /reproduction -->``; what is between comes
from ``FOLDER/summary.json``, relative to the page.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from dainv.errors import UserError
from dainv.reproduction.page import Summary, accuracy, claims, losses, scope, scores, variants
from dainv.runs import write_atomically

_BLOCK = re.compile(r"(<!-- reproduction: (\S+) -->\n).*?(<!-- /reproduction -->)", re.DOTALL)


def block(found: Summary) -> str:
    """What stands in a page about a reproduction."""
    parts = [
        scope(found),
        *claims(found),
        *accuracy(found),
        "Medians of σ by layer:",
        *scores(found),
        *losses(found),
        *(variants(found) if found["variants"] else []),
    ]
    return "\n\n".join(parts)


def filled(text: str, folder: Path) -> str:
    """A page with its blocks as the committed results have them.

    Args:
        text: the page.
        folder: where it is.

    Raises:
        UserError: a block names results that cannot be read.
    """

    def fill(match: re.Match[str]) -> str:
        path = folder / match[2] / "summary.json"
        try:
            return f"{match[1]}{block(json.loads(path.read_text()))}\n{match[3]}"
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not the summary of a reproduction ({error})") from None

    return _BLOCK.sub(fill, text)


def fill_in_place(page: Path) -> None:
    """Bring the blocks of a page up to date.

    Raises:
        UserError: a block names results that cannot be read, or the page cannot be written.
    """
    content = filled(page.read_text(), page.parent).encode()
    write_atomically(page, lambda file: file.write(content))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fill_in_place(Path(name))
