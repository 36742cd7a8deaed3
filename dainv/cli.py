"""The command line: options in, calls to the parts, one line out when a user's mistake stops it."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from dainv._version import __version__
from dainv.errors import UserError
from dainv.runs import CHECKPOINTS
from dainv.settings import TrainSettings

console = Console(highlight=False)


class CommandGroup(click.Group):
    """Turns a user's mistake into one line and exit code 1, an interruption into 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="dainv")
def main() -> None:
    """Data augmentation invariance: train for it and measure it."""


_default = TrainSettings()


@main.command(short_help="Train All-CNN-C with the invariance objective.")
@click.option("--data", default=_default.data, help="cifar10, cifar100, digits, FILE.npz or a folder of images.")
@click.option("--data-root", default=_default.data_root, help="Where downloads go.")
@click.option("--image-size", type=int, default=None, help="Resize the images of a folder to this side.")
@click.option("--run-dir", default=None, help="The run directory.  [default: runs/DATA-ARM-DATE]")
@click.option("--resume", is_flag=True, help="Continue the run in --run-dir.")
@click.option("--dry-run", is_flag=True, help="Say what it would do and what it would cost, and write nothing.")
@click.option("--epochs", default=_default.epochs, help="Epochs; the learning-rate milestones scale along.")
@click.option("--steps", type=int, default=None, help="Updates in all, instead of --epochs.")
@click.option("--batch-size", default=_default.batch_size, help="B, samples in a batch.")
@click.option("--views", default=_default.views, help="M, augmented views of each source image in a batch.")
@click.option("--augmentation", default=_default.augmentation, help="heavier, light or none.")
@click.option(
    "--interpolation", type=click.Choice(["bilinear", "nearest"]), default=_default.interpolation, help="Of the warp."
)
@click.option("--alpha", default=_default.alpha, help="Share of the invariance losses (Eq. 4); 0 is the baseline.")
@click.option(
    "--alpha-schedule",
    default=_default.alpha_schedule,
    metavar="EPOCH:FACTOR,...",
    help="Multiply alpha at epochs of 350, which scale along with --epochs.  [default: none]",
    show_default=False,
)
@click.option("--spread", default=_default.spread, help="Weight of the last layer over that of the first.")
@click.option("--scheme", default=_default.scheme, help="Growth of the weights: exponential, linear or uniform.")
@click.option(
    "--normalization", type=click.Choice(["pairs", "printed"]), default=_default.normalization, help="Form of Eq. 3."
)
@click.option(
    "--fused/--no-fused", default=_default.fused, help="ReLU and loss as one operation, in Triton where it works."
)
@click.option("--backend", default=None, help="Insist on one: reference, torch or triton.")
@click.option("--batch-norm/--no-batch-norm", default=_default.batch_norm, help="Normalise after every convolution.")
@click.option("--width", default=_default.width, help="Factor on the channels of the network.")
@click.option("--learning-rate", default=_default.learning_rate, help="Of SGD.")
@click.option("--momentum", default=_default.momentum, help="Nesterov momentum.")
@click.option("--weight-decay", default=_default.weight_decay, help="L2 penalty; the paper has none.")
@click.option("--clip-gradients", type=float, default=None, metavar="NORM", help="Largest norm of all gradients.")
@click.option("--seed", default=_default.seed, help="Of initialisation, order and augmentation.")
@click.option("--device", default=_default.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--deterministic", is_flag=True, help="Same bits every time on the same machine.")
@click.option(
    "--checkpoint-minutes", default=_default.checkpoint_minutes, help="Longest time between checkpoints in an epoch."
)
@click.option(
    "--tensorboard/--no-tensorboard", default=_default.tensorboard, help="Write the curves as TensorBoard events, too."
)
@click.pass_context
def train(ctx: click.Context, run_dir: str | None, resume: bool, dry_run: bool, **options: Any) -> None:
    """Train All-CNN-C with the invariance objective (Eq. 4).

    The defaults are the published run. Everything ends up in a run directory, which `dainv analyze` reads.
    """
    from dainv.data import load_data
    from dainv.plan import make_plan, show
    from dainv.reporting import ConsoleReporter
    from dainv.signals import Interrupted
    from dainv.training import train as run_training

    if resume:
        if run_dir is None:
            raise UserError("--resume: say which run with --run-dir")
        options = _resumed_options(ctx, run_dir, options)
    settings = TrainSettings(**options)
    data = load_data(settings.data, root=settings.data_root, image_size=settings.image_size, download=not dry_run)
    if dry_run:
        with ConsoleReporter(console) as reporter:
            plan = make_plan(settings, data, reporter)
        console.print(show(plan))
        return
    if run_dir is None:
        arm = "invariance" if settings.alpha else "baseline"
        run_dir = f"runs/{Path(settings.data).stem}-{arm}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        with ConsoleReporter(console) as reporter:
            run = run_training(settings, data, run_dir, reporter, resume=resume)
    except Interrupted:
        click.echo(f"saved; continue with: dainv train --resume --run-dir {run_dir}", err=True)
        ctx.exit(130)
    console.print(f"run directory: {run.path}", soft_wrap=True)


def _resumed_options(ctx: click.Context, run_dir: str, options: dict[str, Any]) -> dict[str, Any]:
    """The run's own settings, under those on the command line; training refuses what may not change."""
    from dainv.runs import RunDirectory

    saved = {
        name: tuple(v) if isinstance(v, list) else v
        for name, v in RunDirectory.open(run_dir).config["settings"].items()
    }
    given = {name: v for name, v in options.items() if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    return {**{field.name: saved[field.name] for field in fields(TrainSettings) if field.name in saved}, **given}


@main.command(short_help="Accuracy of a trained run.")
@click.argument("run_dir")
@click.option(
    "--checkpoint", type=click.Choice(CHECKPOINTS), default="newest", help="best has the highest test accuracy."
)
@click.option("--data", default=None, help="Other data than the run was trained on.")
@click.option("--data-root", default=None, help="Where downloads go.  [default: where those of the run went]")
@click.option("--batch-size", default=500, help="Images at a time.")
@click.option("--device", default="auto", help="auto, cpu, cuda, ...")
def evaluate(
    run_dir: str, checkpoint: str, data: str | None, data_root: str | None, batch_size: int, device: str
) -> None:
    """Accuracy and cross-entropy of a run's checkpoint, on training and test images as they are."""
    from dainv.data import load_data
    from dainv.devices import resolve_device
    from dainv.evaluation import accuracy
    from dainv.models.loading import model_from_run
    from dainv.runs import RunDirectory

    run = RunDirectory.open(run_dir, checkpoint)
    settings = run.config["settings"]
    images = load_data(
        data or settings["data"], root=data_root or settings["data_root"], image_size=settings["image_size"]
    )
    place = resolve_device(device)
    model = model_from_run(run).to(place)
    table = Table(
        "images", "number", "accuracy", "cross-entropy", title=f"{run.name}, {checkpoint} checkpoint, on {images.name}"
    )
    for name, split in (("test", images.test), ("training", images.train)):
        result = accuracy(model, split.to(place), batch_size)
        table.add_row(name, str(len(split)), f"{100 * result['accuracy']:.2f} %", f"{result['loss']:.4f}")
    console.print(table)


@main.command(short_help="Invariance scores, loss dynamics, figures and a report of runs.")
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


@main.command(short_help="The layers of a model.")
@click.argument("model")
@click.option("--pattern", default="*", help="Shell-style pattern of layer names.")
@click.option("--image-size", default=32, help="Side of the image to try the model with.")
@click.option("--channels", default=3, help="Channels of that image.")
def layers(model: str, pattern: str, image_size: int, channels: int) -> None:
    """Names, types, output shapes and dimensions D of a model's layers.

    MODEL is allcnn, a run directory, a torchvision name, or module:function.
    """
    from dainv.models.layers import describe_layers
    from dainv.models.loading import load_model

    table = Table("layer", "type", "output", "D", title=model)
    for layer in describe_layers(load_model(model), pattern, (channels, image_size, image_size)):
        table.add_row(layer.name, layer.type, " × ".join(map(str, layer.shape)), f"{layer.dimension:,}")
    console.print(table)


@main.command(short_help="What a bug report needs.")
def env() -> None:
    """Versions, hardware, commit, and which backends work here and why not."""
    from dainv.environment import environment

    def rows(value: dict[str, Any], prefix: str = "") -> None:
        for key, item in value.items():
            if isinstance(item, dict):
                rows(item, f"{prefix}{key}.")
            else:
                shown = ", ".join(item) or "none" if isinstance(item, list) else str(item)
                console.print(f"{prefix + key:<24} {shown}", soft_wrap=True)

    rows(environment())
