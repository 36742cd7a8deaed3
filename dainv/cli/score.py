"""`dainv score`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from dainv.cli import options
from dainv.cli.console import OfSeveral, console, expect_writable, print_whole
from dainv.errors import UserError

if TYPE_CHECKING:
    from dainv.scores.study import Study


@click.command(cls=OfSeveral, epilog=options.MODEL)
@click.argument("model")
@options.data
@options.data_root
@options.image_size
@options.images
@options.layers
@options.weights
@options.checkpoint
@options.normalize
@click.option(
    "--transform",
    multiple=True,
    default=("half-extremes",),
    help="G of Eq. 2, a scheme or module:function; may be repeated.",
)
@options.repeats
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(("transformation", "class")),
    help="σ of each transformation of the scheme alone, or of each class, with class-wise invariance; may be repeated.",
)
@click.option("--curves", is_flag=True, help="σ against the strength of each transformation.")
@click.option("--variance-ratio", is_flag=True, help="Also variance over transformations / variance over images.")
@options.batch_size
@options.device
@options.seed
@options.form
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for scores, tables and figures.")
@click.pass_context
def score(ctx: click.Context, form: str, out: Path | None, device: str, **asked: Any) -> None:
    """Invariance score σ (Eq. 2) of a network's layers, and what it is made of.

    With --out, work that was interrupted is continued by the same command. Several processes share the work when
    started by torchrun.
    """
    from dainv.devices import resolve_device
    from dainv.malloc import keep_freed_memory
    from dainv.ranks import Ranks
    from dainv.reporting import progress_bar
    from dainv.runs import DYNAMICS_TABLE, REPORT
    from dainv.scores.settings import ScoreSettings
    from dainv.scores.study import score as run_score
    from dainv.signals import Interrupted, StopSignals

    settings = ScoreSettings(**asked)
    if out is not None:
        expect_writable(out / "summary.json")
        if any((out / name).exists() for name in (REPORT, DYNAMICS_TABLE)):
            raise UserError(f"--out {out}: `dainv analyze` has files of the same names there; choose another folder")
    place = resolve_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    with Ranks.from_environment(place.type) as ranks:
        if out is not None and (out / "summary.json").exists() and ranks.is_main:
            click.echo(f"warning: {out} holds an earlier result, in whose place this one goes", err=True)
        signals = StopSignals(announce=ranks.is_main, several=ranks.size > 1)
        quiet = Console(quiet=True)
        try:
            # Without a folder there is nothing to save, and Ctrl-C may end it at once.
            with progress_bar(console if ranks.is_main else quiet) as progress, signals if out else nullcontext():
                study = run_score(
                    settings,
                    ranks=ranks,
                    device=ranks.device if ranks.size > 1 else place,
                    out=out,
                    progress=progress,
                    stop=lambda: signals.received,
                )
        except Interrupted:
            if ranks.is_main:
                click.echo(f"saved in {out}; the same command continues it", err=True)
            ranks.close()  # this is no error: all of them are here
            ctx.exit(130)
        if ranks.is_main:
            _show(study, form, out)


def _show(study: Study, form: str, out: Path | None) -> None:
    from dainv.export import json_of
    from dainv.scores.results import by_reason
    from dainv.scores.tables import files_of, rows_csv, score_rows, summary_of
    from dainv.scores.terminal import tables

    missing = [f"{why}, hence without a score: {', '.join(of)}" for why, of in by_reason(study.scores.unscored).items()]
    for note in (*study.scores.notes, *missing):
        click.echo(f"warning: {note}", err=True)
    if form == "json":
        click.echo(json_of(summary_of(study)), nl=False)
    elif form == "csv":
        click.echo(rows_csv(score_rows(study)), nl=False)
    else:
        for table in tables(study):
            print_whole(table)
    if out is not None:
        from dainv.export import write_file
        from dainv.scores.figures import figures_of

        for name, content in {**files_of(study), **figures_of(study)}.items():
            if content is None:  # of another call, it would stand beside the summary of this one
                (out / name).unlink(missing_ok=True)
            else:
                write_file(out / name, content)
        click.echo(f"written to {out}", err=form != "table")
