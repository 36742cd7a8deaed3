"""The command line of the benchmarks: options in, a table and a JSON file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from dainv import __version__
from dainv.cli import CommandGroup
from dainv.reporting import progress_bar
from dainv_bench.compilation import TARGETS
from dainv_bench.gpu_cli import COMMANDS
from dainv_bench.overhead import OverheadSettings, measure
from dainv_bench.resources import README, default_resources_path, measure_resources, resources_summary, rewrite_readme
from dainv_bench.results import FOLDER, default_path, write_result
from dainv_bench.scaling.cli import scaling
from dainv_bench.scores.cli import scores
from dainv_bench.tables import print_overhead

console = Console(highlight=False)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="dainv-bench")
def main() -> None:
    """Measure what data augmentation invariance costs."""


_default = OverheadSettings()
_EPOCHS: dict[str, Any] = {"rounds": 3, "warmup": 1}
_QUICK: dict[str, Any] = {"rounds": 3, "warmup": 1, "arms": "baseline,published,closed-form,ours,ours-relu"}


@main.command(short_help="What the objective adds to a training step.")
@click.option("--batch-size", default=_default.batch_size, help="B, samples in a batch.")
@click.option("--views", default=_default.views, help="M, views of each source image.")
@click.option("--width", default=_default.width, help="Factor on the channels of the network.")
@click.option("--batch-norm/--no-batch-norm", default=_default.batch_norm, help="Normalise after every convolution.")
@click.option("--epoch", is_flag=True, help="Time whole epochs, batches included, instead of steps.")
@click.option("--data", default=_default.data, help="Of the epochs: as for `dainv train`.")
@click.option(
    "--rounds", type=int, help=f"Steps timed of each arm.  [default: {_default.rounds}, of epochs {_EPOCHS['rounds']}]"
)
@click.option("--warmup", type=int, help=f"Steps of each arm before.  [default: {_default.warmup}]")
@click.option(
    "--quick", is_flag=True, help=f"Only {_QUICK['rounds']} rounds of {_QUICK['arms']}, in a minute on two cores."
)
@click.option("--arms", help=f"What to compare with the baseline.  [default: {','.join(_default.arms)}]")
@click.option("--limit", default=_default.limit, help="Percent of a step the objective may cost; 10 is the paper's.")
@click.option("--device", default=_default.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--seed", default=_default.seed, help="Of parameters, batches and orders.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help=f"Where the JSON goes.  [default: {FOLDER}/overhead--MACHINE--DEVICE.json, overhead-quick--... with --quick]",
)
@click.pass_context
def overhead(
    ctx: click.Context,
    rounds: int | None,
    warmup: int | None,
    quick: bool,
    arms: str | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Time a training step of All-CNN-C with and without the objective, side by side.

    Ends with exit code 1 where the objective costs more than the limit. Ctrl-C keeps the rounds that are finished.
    """
    asked = {"rounds": rounds, "warmup": warmup, "arms": arms}
    preset = {**(_EPOCHS if options["epoch"] else {}), **(_QUICK if quick else {})}
    preset.update({name: value for name, value in asked.items() if value is not None})
    if "arms" in preset:
        preset["arms"] = tuple(name.strip() for name in preset["arms"].split(",") if name.strip())
    settings = OverheadSettings(**preset, **options)
    progress = progress_bar(console)
    progress.live.auto_refresh = False  # a thread that draws would share the processor with what is timed
    with progress:
        task = progress.add_task("starting", total=None)

        def on_progress(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total, refresh=True)

        result = measure(settings, on_progress)
    print_overhead(console, result)
    # A rehearsal must not take the place of a measurement.
    suite = "overhead" + ("-epoch" if options["epoch"] else "") + ("-quick" if quick else "")
    path = out or default_path(suite, result["environment"], torch.device(result["settings"]["device"]))
    write_result(path, result)
    console.print(f"written to {path}", soft_wrap=True, markup=False)
    if result["interrupted"]:
        ctx.exit(130)
    if result["verdict"] and result["verdict"]["verdict"] == "above":
        ctx.exit(1)


@main.command(short_help="What the Triton kernels take of GPUs, by compiling them.")
@click.option("--target", "targets", multiple=True, help=f"{', '.join(TARGETS)}; may be repeated.  [default: all]")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help=f"Where the JSON goes.  [default: {FOLDER}/kernel-resources--triton-VERSION.json, if for all targets]",
)
def resources(targets: tuple[str, ...], out: Path | None) -> None:
    """Compile every Triton kernel for every target, on any machine, and write what each takes of a GPU.

    Registers, spills, shared memory and the width of loads and stores are read from the machine code. In a checkout
    the table in kernels/README.md is rewritten from the results.
    """
    with progress_bar(console) as progress:
        task = progress.add_task("starting", total=None)
        result = measure_resources(
            targets or tuple(TARGETS),
            lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
        )
    for line in resources_summary(result):
        console.print(line, soft_wrap=True, markup=False)
    if out is None and targets:
        return  # some targets must not take the place of all
    path = out or default_resources_path(result)
    write_result(path, result)
    console.print(f"written to {path}", soft_wrap=True, markup=False)
    if rewrite_readme():
        console.print(f"table in {README} rewritten", soft_wrap=True, markup=False)


for command in (*COMMANDS, scores, scaling):
    main.add_command(command)
