"""`dainv analyze`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dainv.cli import options
from dainv.cli.console import console, expect_writable


@click.command()
@click.argument("run_dirs", nargs=-1, required=True, metavar="RUN_DIR...")
@options.data
@options.data_root
@click.option("--transform", default="half-extremes", help="G of Eq. 2, an augmentation scheme.")
@options.repeats
@options.images
@options.batch_size
@options.device
@options.seed
@options.checkpoint
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for figures, report and summary.")
@options.form
def analyze(run_dirs: tuple[str, ...], device: str, form: str, out: Path | None, **asked: Any) -> None:
    """Figure 1 (invariance score per layer, Eq. 2), Figure 2 (loss dynamics) and a report.

    Several runs are compared; runs that differ in their seed only are taken together. Scores and tables of a run go
    to its analysis/ folder. Figures, report and summary go to that of the first run, or to --out.

    --format json prints the summary, csv the scores, with everything else on stderr.
    """
    from dainv.analysis import analyze as run_analysis
    from dainv.devices import resolve_device
    from dainv.reporting import progress_bar

    if out is not None:
        expect_writable(out / "report.html")
    where = console if form == "table" else Console(stderr=True, highlight=False)
    with progress_bar(where) as progress:
        result = run_analysis(run_dirs, device=resolve_device(device), progress=progress, out=out, **asked)
    for note in result.notes:
        click.echo(note, err=True)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    if form == "table":
        # Numbers are not cut off where a terminal is narrower than they are.
        Console(highlight=False, width=max(console.width, 80)).print(result.table(), crop=False)
    else:
        click.echo(result.outputs.summary if form == "json" else result.outputs.scores, nl=False)
    where.print(f"report: {result.report}", soft_wrap=True)
