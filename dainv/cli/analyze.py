"""`dainv analyze`."""

from __future__ import annotations

from typing import Any

import click

from dainv.cli.console import console


@click.command(short_help="Invariance scores, loss dynamics, figures and a report of runs.")
@click.argument("run_dirs", nargs=-1, required=True, metavar="RUN_DIR...")
@click.option("--data", default=None, help="Other data than the runs were trained on.")
@click.option("--data-root", default=None, help="Where downloads go.  [default: where the run's went]")
@click.option("--transform", default="half-extremes", help="G of Eq. 2, an augmentation scheme.")
@click.option("--repeats", default=5, help="Transformations of each image.")
@click.option("--images", type=int, default=None, help="Only so many test images, drawn by the seed.  [default: all]")
@click.option("--batch-size", default=256, help="Images at a time; does not change the scores.")
@click.option("--device", default="auto", help="auto, cpu, cuda, ...")
@click.option("--seed", default=0, help="Of the transformations and of the choice of images.")
def analyze(run_dirs: tuple[str, ...], device: str, **options: Any) -> None:
    """Figure 1 (invariance score per layer, Eq. 2), Figure 2 (loss dynamics) and a report.

    Results go to analysis/ in the run directory. Several runs are compared, and what compares them goes to the first.
    """
    from dainv.analysis import analyze as run_analysis
    from dainv.devices import resolve_device
    from dainv.reporting import progress_bar

    with progress_bar(console) as progress:
        result = run_analysis(run_dirs, device=resolve_device(device), progress=progress, **options)
    for note in result.notes:
        click.echo(note, err=True)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    console.print(result.table())
    console.print(f"report: {result.report}", soft_wrap=True)
