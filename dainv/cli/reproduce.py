"""`dainv reproduce`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table

from dainv.cli import options
from dainv.cli.console import console
from dainv.cli.train import train
from dainv.errors import UserError
from dainv.settings import TrainSettings


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", metavar="DIR")
@click.argument("training_options", nargs=-1, type=click.UNPROCESSED, metavar="[TRAINING OPTIONS]")
@click.option(
    "--seeds", default="1", metavar="N|A,B,...", help="How many seeds, from 0 on; or which ones (of one: 7,)."
)
@click.option("--budget", type=click.IntRange(1), default=350, metavar="EPOCHS", help="Epochs of each run.")
@click.option("--adopt", multiple=True, metavar="RUN_DIR", help="Copy this run to its place; may be repeated.")
@click.option("--overhead", multiple=True, metavar="FILE", help="Results of `dainv-bench overhead`; may be repeated.")
@click.option("--transform", default="half-extremes-released", help="G of Eq. 2; the default is Figure 1's.")
@options.repeats
@options.images
@click.option(
    "--variants", default="", metavar="A,B+C,...", help="Short runs of other recipes, compared with Figure 2."
)
@click.option("--variant-epochs", type=click.IntRange(1), default=11, help="Epochs of these; Figure 2's are 0 to 10.")
@click.pass_context
def reproduce(
    ctx: click.Context,
    folder: str,
    training_options: tuple[str, ...],
    seeds: str,
    budget: int,
    adopt: tuple[str, ...],
    overhead: tuple[str, ...],
    transform: str,
    repeats: int,
    images: int | None,
    variants: str,
    variant_epochs: int,
) -> None:
    """Train baseline and invariance All-CNN-C by the published recipe, score them, and say what holds.

    Each run is a run directory in DIR; DIR/reproduction/report.md is the page. The same command again goes on where it
    was. Options of `dainv train` may follow, for all runs: dainv reproduce DIR --budget 10 --data cifar10 --batch-norm

    Variants are batch-norm, no-batch-norm, nearest, bilinear, printed, pairs and light, or several of them joined by +.
    """
    from dainv.analysis.scoring import ScoringPlan
    from dainv.malloc import keep_freed_memory
    from dainv.reporting import ConsoleReporter, progress_bar
    from dainv.reproduction.overhead import read_overhead
    from dainv.reproduction.planned_runs import plan_runs
    from dainv.reproduction.reproduce import reproduce as run
    from dainv.signals import Interrupted

    if folder.startswith("-"):
        raise UserError(f"{folder}: DIR comes first, then options of `dainv train`")
    scoring = ScoringPlan(transform=transform, repeats=repeats, images=images)
    measured = [read_overhead(path) for path in overhead]
    names = [name for name in variants.split(",") if name]
    plan = plan_runs({"fused": True, **_training(training_options)}, _seeds(seeds), budget, names, variant_epochs)
    keep_freed_memory()
    try:
        found = run(
            folder,
            plan,
            lambda: ConsoleReporter(console),
            scoring=scoring,
            overheads=measured,
            adopted=adopt,
            progress=lambda: progress_bar(console),
            say=lambda text: console.print(text, soft_wrap=True),
        )
    except Interrupted:
        click.echo("saved; the same command goes on from here", err=True)
        ctx.exit(130)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    table = Table("the paper", "verdict", "numbers")
    for verdict in found.verdicts:
        table.add_row(verdict.statement, verdict.verdict, verdict.because)
    console.print(table)
    console.print(f"page: {found.page}", soft_wrap=True)


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part] if "," in text else list(range(int(text)))
    except ValueError:
        raise UserError(f"--seeds: expected a number as in 3, or seeds as in 0,1,2, got {text!r}") from None


def _training(options: tuple[str, ...]) -> dict[str, Any]:
    """Settings among the options of `dainv train` that were typed.

    Raises:
        UserError: an option that belongs to a single run.
    """
    with train.make_context("reproduce", list(options)) as parsed:
        given = [name for name in parsed.params if parsed.get_parameter_source(name) == ParameterSource.COMMANDLINE]
        known = {field.name for field in fields(TrainSettings)}
        for name in given:
            if name not in known:
                raise UserError(f"--{name.replace('_', '-')}: not for a reproduction, which makes several runs")
        return {name: parsed.params[name] for name in given}
