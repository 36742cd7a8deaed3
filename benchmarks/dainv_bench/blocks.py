"""Generated parts of documents: what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""

from __future__ import annotations

import re
from pathlib import Path

from dainv.runs import write_atomically


def block_pattern(name: str) -> re.Pattern[str]:
    """Matches the content of the block, the lines with its marks not included."""
    return re.compile(rf"(?<=<!-- {re.escape(name)} -->\n).*?(?=<!-- /{re.escape(name)} -->)", re.DOTALL)


def rewrite_block(path: Path, name: str, content: str) -> bool:
    """Replace the content of a block.

    Args:
        path: the document.
        name: of the block.
        content: whole lines.

    Returns:
        Whether there is such a document with such a block.

    Raises:
        UserError: the document cannot be written.
    """
    text = path.read_text() if path.is_file() else ""
    pattern = block_pattern(name)
    if not pattern.search(text):
        return False
    written = pattern.sub(lambda _: content, text).encode()
    write_atomically(path, lambda file: file.write(written))
    return True
