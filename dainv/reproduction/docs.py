"""Blocks of a Markdown page that committed reproductions fill: ``python -m dainv.reproduction.docs PAGE [PAGE...]``.

``<!-- reproduction: FOLDER -->`` to ``<!-- /reproduction -->`` shows one, ``<!-- claims: FOLDER [FOLDER...] -->`` to
``<!-- /claims -->`` what each says of each claim. What is between comes from ``FOLDER/summary.json``; folders are
relative to the page.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dainv.errors import UserError
from dainv.export import write_file
from dainv.reproduction.overhead import OVERHEAD
from dainv.reproduction.published import EPOCHS
from dainv.reproduction.report import (
    Summary,
    accuracy,
    changed_options,
    claims,
    is_scaled,
    scope,
    scores,
    table,
    variants,
)

_BLOCK = re.compile(r"(^<!-- (reproduction|claims): ([^>]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL | re.MULTILINE)
_PUBLISHED = f"the published recipe, {EPOCHS} epochs"


def block(found: Summary) -> str:
    """What stands in a page about a reproduction; its report has the differences by epoch too."""
    parts = [
        scope(found),
        *claims(found),
        *accuracy(found),
        *scores(found),
        *(variants(found) if found["variants"] else []),
    ]
    return "\n\n".join(parts)


def overview(found: Sequence[tuple[str, Summary]]) -> str:
    """A row a claim, a column a reproduction; the first is the paper's own recipe, run or not.

    The claim about time is judged by a benchmark of the published network, so it stands there whatever was trained.

    Args:
        found: where the report of each is, and its summary.
    """
    whole, scaled = ([one for one in found if is_scaled(one[1]) == kind] for kind in (False, True))
    statements = {claim["claim"]: claim["statement"] for _, summary in found for claim in summary["claims"]}
    verdicts = [{claim["claim"]: _verdict(claim) for claim in summary["claims"]} for _, summary in [*whole, *scaled]]
    header = [_heading(*one) for one in whole] or [_PUBLISHED]
    rows = []
    for claim, statement in statements.items():
        if claim == OVERHEAD:
            cells = [_measured([summary for _, summary in found])]
        else:
            cells = ["not run"] * (not whole) + [judged.get(claim, "") for judged in verdicts]
        rows.append([statement, *cells, *[""] * (len(header) + len(scaled) - len(cells))])
    return table(["claim of the paper", *header, *(_heading(*one) for one in scaled)], rows)


def _verdict(claim: Mapping[str, Any]) -> str:
    return f"**{claim['verdict']}**"


def _measured(found: Sequence[Summary]) -> str:
    """The first verdict on the time that comes from a measurement."""
    for summary in found:
        for claim in summary["claims"]:
            if claim["claim"] == OVERHEAD and claim["numbers"]:
                return f"{_verdict(claim)} on {' and '.join(claim['numbers'])}"
    return "not run"


def _heading(report: str, found: Summary) -> str:
    options = changed_options(found)
    what = f"{found['epochs']} epochs{f', `{options}`' if options else ''}" if is_scaled(found) else _PUBLISHED
    seeds = len(found["seeds"])
    return f"[{what}]({report}), {seeds} seed{'s' if seeds > 1 else ''}"


def filled(text: str, folder: Path) -> str:
    """A page with its blocks as the committed results have them.

    Args:
        text: the page.
        folder: where it is.

    Raises:
        UserError: a block names results that cannot be read.
    """

    def summary(name: str) -> Summary:
        path = folder / name / "summary.json"
        try:
            found: Summary = json.loads(path.read_text())
            found["claims"], found["epochs"], found["changed_settings"]
            return found
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the summary of a reproduction ({error})") from None

    def fill(match: re.Match[str]) -> str:
        names = match[3].split()
        if match[2] == "claims":
            content = overview([(f"{name}/report.md", summary(name)) for name in names])
        else:
            content = block(summary(match[3]))
        return f"{match[1]}{content}\n{match[4]}"

    return _BLOCK.sub(fill, text)


def fill_in_place(page: Path) -> None:
    """Bring the blocks of a page up to date.

    Raises:
        UserError: a block names results that cannot be read, or the page cannot be written.
    """
    write_file(page, filled(page.read_text(), page.parent).encode())


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fill_in_place(Path(name))
