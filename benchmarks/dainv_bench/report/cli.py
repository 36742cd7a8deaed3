"""``dainv-bench report``: result files in, a document out."""

from __future__ import annotations

from pathlib import Path

import click

from dainv.errors import UserError
from dainv_bench.console import console
from dainv_bench.report.entries import committed_files, read_entries
from dainv_bench.results import FOLDER

DOCUMENT = Path("docs/performance.md")


@click.command(short_help="Tables and figures of results, as one document.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help=f"Folder for report.md and its figures.  [default: {DOCUMENT}, if for all results]",
)
def report(files: tuple[Path, ...], folder: Path | None) -> None:
    """Write the results in FILES, by default all in benchmarks/results, as a document with tables and figures.

    Without options, in a checkout, the tables in the README are rewritten too. Rehearsals are left out unless they
    are named.
    """
    if folder is None and files:
        raise UserError(f"--out DIR is needed for chosen files: {DOCUMENT} shows all of {FOLDER}")
    if folder is None and not DOCUMENT.parent.is_dir():
        raise UserError(f"--out DIR is needed outside of a checkout: there is no folder {DOCUMENT.parent}")
    from dainv_bench.report.document import write_report  # draws: matplotlib is not for the other commands
    from dainv_bench.report.readme import README, rewrite_blocks

    entries = read_entries(files or committed_files())
    if not entries:
        raise UserError(f"there is no result in {FOLDER}; name files, or measure something")
    document, *figures = write_report(DOCUMENT if folder is None else folder / "report.md", entries)
    beside = f" and {len(figures)} figures beside it" if figures else ""
    console.print(f"{document} written{beside}", soft_wrap=True, markup=False)
    blocks = rewrite_blocks(entries) if folder is None else []
    if blocks:
        console.print(f"tables in {README} rewritten: {', '.join(blocks)}", soft_wrap=True, markup=False)
