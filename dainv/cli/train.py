"""`dainv train`: options become settings."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext, suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.text import Text

from dainv.cli import options
from dainv.cli.console import OfSeveral, console
from dainv.errors import UserError
from dainv.names import BACKENDS, STREAMING
from dainv.settings import PRECISIONS, SCOPES, TrainSettings

if TYPE_CHECKING:
    from dainv.data import ImageData
    from dainv.ranks import Ranks

_default = TrainSettings()


@click.command(cls=OfSeveral)
@click.option("--data", default=_default.data, help="cifar10, cifar100, digits, FILE.npz or a folder of images.")
@click.option("--data-root", default=_default.data_root, help="Where downloads go.")
@click.option("--image-size", type=int, default=None, help="Resize the images of a folder to this side.")
@click.option(
    "--stream",
    type=click.Choice(STREAMING),
    default=_default.stream,
    help="Decode the images of a folder as they are needed; auto: if they would not fit into memory.",
)
@click.option("--workers", type=int, default=None, help="Processes that decode.  [default: one a core, 8 at most]")
@click.option(
    "--model",
    default=_default.model,
    metavar="SPEC",
    help="allcnn, cifar-resnet18, wrn-28-10 (or another depth and width), a torchvision name, timm:NAME, "
    "module:function of your own, or a run directory to begin with its network and weights.",
)
@options.weights
@click.option(
    "--layers",
    multiple=True,
    metavar="PATTERN",
    help="Layers of the objective (`dainv layers` lists them); may be repeated.  [default: the model's own]",
    show_default=False,
)
@click.option("--run-dir", default=None, help="The run directory.  [default: runs/DATA-ARM-DATE]")
@click.option("--resume", is_flag=True, help="Continue the run in --run-dir.")
@click.option("--dry-run", is_flag=True, help="Say what it would do and what it would cost, and write nothing.")
@click.option(
    "--profile",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.json",
    help="Write where the time of an update goes on a CPU, and end.",
)
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
    help="Multiply alpha at epochs of 350, which scale along with --epochs.  [default: alpha stays]",
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
@click.option("--backend", default=None, help=f"Insist on one: {', '.join(BACKENDS)}.")
@click.option(
    "--invariance-scope",
    type=click.Choice(SCOPES),
    default=_default.invariance_scope,
    help="Of several processes: the objective over the whole batch, or over each one's share.",
)
@click.option("--batch-norm/--no-batch-norm", default=_default.batch_norm, help="Of allcnn: after every convolution.")
@click.option("--width", default=_default.width, help="Of allcnn: factor on its channels.")
@click.option("--learning-rate", default=_default.learning_rate, help="Of SGD.")
@click.option("--momentum", default=_default.momentum, help="Nesterov momentum.")
@click.option("--weight-decay", default=_default.weight_decay, help="L2 penalty; the paper has none.")
@click.option("--clip-gradients", type=float, default=None, metavar="NORM", help="Largest norm of all gradients.")
@click.option("--seed", default=_default.seed, help="Of initialisation, order and augmentation.")
@click.option("--device", default=_default.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=_default.precision,
    help="tf32 rounds products on a GPU; bf16 computes in bfloat16 by autocast, losses in float32.",
)
@click.option("--compile/--no-compile", default=_default.compile, help="torch.compile the forward pass and the losses.")
@click.option(
    "--cuda-graph/--no-cuda-graph",
    default=None,
    help="Record the whole step and replay it.  [default: on one GPU, unless compiled]",
    show_default=False,
)
@click.option("--deterministic", is_flag=True, help="Same bits every time on the same machine.")
@click.option(
    "--checkpoint-minutes", default=_default.checkpoint_minutes, help="Longest time between checkpoints in an epoch."
)
@click.option(
    "--tensorboard/--no-tensorboard", default=_default.tensorboard, help="Write the curves as TensorBoard events, too."
)
@click.pass_context
def train(
    ctx: click.Context, run_dir: str | None, resume: bool, dry_run: bool, profile: Path | None, **options: Any
) -> None:
    """Train a network with the invariance objective (Eq. 4).

    The defaults are the published run. Everything ends up in a run directory, which `dainv analyze` reads.
    """
    from dainv.devices import resolve_device
    from dainv.malloc import keep_freed_memory
    from dainv.plan import make_plan, show
    from dainv.ranks import Ranks
    from dainv.reporting import ConsoleReporter, SilentReporter, say
    from dainv.runs import RunDirectory
    from dainv.signals import Interrupted
    from dainv.training import train as run_training

    if resume:
        if run_dir is None:
            raise UserError("--resume: say which run with --run-dir")
        options = _resumed_options(ctx, run_dir, options)
    settings = TrainSettings(**options)
    if run_dir is not None and not (resume or dry_run or profile):
        RunDirectory(run_dir).check_free()  # before anything is downloaded
    with Ranks.from_environment(resolve_device(settings.device).type) as ranks:
        data = _load(settings, ranks, download=not (dry_run or profile))
        if ranks.device.type == "cpu":
            keep_freed_memory()  # of the training: what loading took is given back
        if dry_run:
            if not ranks.is_main:
                return
            with ConsoleReporter(console) as reporter:
                plan = make_plan(settings, data, reporter)
            console.print(show(plan))
            return
        if profile is not None:
            if ranks.is_main:
                _profile(settings, data, profile)
            return
        if run_dir is None:
            arm = "invariance" if settings.alpha else "baseline"
            run_dir = f"runs/{Path(settings.data).stem}-{arm}-{datetime.now():%Y%m%d-%H%M%S}"
        try:
            with ConsoleReporter(console) if ranks.is_main else nullcontext(SilentReporter()) as reporter:
                run = run_training(settings, data, run_dir, reporter, resume=resume, ranks=ranks)
        except Interrupted:
            if ranks.is_main:
                with suppress(OSError):  # the terminal may be what is gone
                    command = shlex.join(["dainv", "train", "--resume", "--run-dir", run_dir])
                    click.echo(f"saved; continue with: {command}", err=True)
            ranks.close()  # this is no error: all of them are here
            ctx.exit(130)
        if ranks.is_main:
            say(console, Text(f"run directory: {run.path}"))


def _profile(settings: TrainSettings, data: ImageData, path: Path) -> None:
    from dainv.reporting import ConsoleReporter
    from dainv.runs import write_atomically
    from dainv.training import Trainer
    from dainv.training.profile import profile, table

    with ConsoleReporter(console) as reporter:
        found = profile(Trainer(settings, data, reporter))
    write_atomically(path, lambda file: file.write((json.dumps(found, indent=1) + "\n").encode()))
    console.print(table(found))
    console.print(f"written to {path}", soft_wrap=True, markup=False)


def _load(settings: TrainSettings, ranks: Ranks, download: bool) -> ImageData:
    """The data; what has to be downloaded is so once."""
    from dainv.data import load_data

    if not ranks.is_main:
        ranks.barrier()
    data = load_data(
        settings.data,
        root=settings.data_root,
        image_size=settings.image_size,
        download=download,
        stream=settings.stream,
        workers=settings.workers,
    )
    if ranks.is_main:
        ranks.barrier()
    return data


def _resumed_options(ctx: click.Context, run_dir: str, options: dict[str, Any]) -> dict[str, Any]:
    """The run's own settings, under those on the command line; training refuses what may not change."""
    from dainv.data.named import NAMED
    from dainv.runs import RunDirectory

    config = RunDirectory.open(run_dir).config
    if not isinstance(config.get("settings"), dict):
        raise UserError(f"--resume: config.json of {run_dir} has no settings; it is not as training wrote it")
    saved = {name: tuple(v) if isinstance(v, list) else v for name, v in config["settings"].items()}
    given = {name: v for name, v in options.items() if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    resumed = {**{field.name: saved[field.name] for field in fields(TrainSettings) if field.name in saved}, **given}
    if (data := resumed.get("data", _default.data)) not in NAMED and not Path(data).exists():
        raise UserError(f"--resume: {data} is not here; --data says where the data of the run are now")
    return resumed
