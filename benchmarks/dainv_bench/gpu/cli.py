"""The commands about what a GPU can show: options in, tables and JSON files out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dainv_bench.console import RESULT_FILE, console, names, out_option, progress, result_path, write
from dainv_bench.gpu import captured as captured_suite
from dainv_bench.gpu import check
from dainv_bench.gpu import launches as launches_suite
from dainv_bench.gpu import training as training_suite
from dainv_bench.gpu.captured import CapturedSettings
from dainv_bench.gpu.table import print_captured, print_gpu_check, print_launches, print_training
from dainv_bench.gpu.training import TrainingSettings

_captured, _training = CapturedSettings(), TrainingSettings()


@click.command(short_help="What the objective adds to a compiled or captured step.")
@click.option("--batch-size", default=_captured.batch_size, help="B, samples in a batch.")
@click.option("--views", default=_captured.views, help="M, views of each source image.")
@click.option("--width", default=_captured.width, help="Factor on the channels of the network.")
@click.option("--batch-norm/--no-batch-norm", default=_captured.batch_norm, help="Normalise after every convolution.")
@click.option("--rounds", default=_captured.rounds, help="Times each is timed.")
@click.option("--arms", default=",".join(_captured.arms), callback=names, help="What to compare with the baseline.")
@click.option("--compiled", default=",".join(_captured.compiled), callback=names, help="Those to compile as well.")
@click.option("--device", default=_captured.device, help="auto, cuda, cuda:1, ...")
@click.option("--seed", default=_captured.seed, help="Of parameters, batches and orders.")
@click.option("--out", type=RESULT_FILE, help="Where the JSON goes; as for overhead.")
@click.pass_context
def captured(ctx: click.Context, out: Path | None, **options: Any) -> None:
    """Time a step of All-CNN-C recorded as a CUDA graph, compiled or not, against the fastest baseline.

    What cannot be compiled or recorded is not timed and ends the run with exit code 1.
    """
    with progress() as on_progress:
        result = captured_suite.measure(CapturedSettings(**options), on_progress=on_progress)
    print_captured(console, result)
    write(out or result_path("captured-norm" if options["batch_norm"] else "captured", result), result)
    if result["interrupted"]:
        ctx.exit(130)
    if captured_suite.broken_forms(result):
        ctx.exit(1)


@click.command(short_help="The whole step of `dainv train`, eager and recorded, by precision.")
@click.option("--batch-size", default=_training.batch_size, help="B, samples in a batch.")
@click.option("--views", default=_training.views, help="M, views of each source image.")
@click.option("--width", default=_training.width, help="Factor on the channels of the network.")
@click.option("--batch-norm/--no-batch-norm", default=_training.batch_norm, help="Normalise after every convolution.")
@click.option(
    "--backend", default=_training.backend, help="Of the operator: torch, native, triton.  [default: as train]"
)
@click.option("--precision", default=",".join(_training.precision), callback=names, help="Those to measure.")
@click.option("--compared", default=_training.compared, help="Steps in which recorded ones have to be the eager ones.")
@click.option("--rounds", default=_training.rounds, help="Times each is timed.")
@click.option("--steps-a-turn", default=_training.steps_a_turn, help="Steps that are timed together.")
@click.option("--device", default=_training.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--seed", default=_training.seed, help="Of parameters, images and orders.")
@out_option("training")
def training(out: Path | None, **options: Any) -> None:
    """Compare 200 recorded steps with eager ones, time steps with and without the objective, estimate 350 epochs."""
    with progress() as on_progress:
        result = training_suite.measure(TrainingSettings(**options), on_progress)
    print_training(console, result)
    write(out or result_path("training", result), result)


@click.command(short_help="What a step launches, and whether the host waits.")
@click.option("--batch-size", default=128, help="B, samples in a batch.")
@click.option("--views", default=8, help="M, views of each source image.")
@click.option("--device", default="auto", help="auto, cuda, cuda:1, ...")
@click.option("--seed", default=0, help="Of parameters and batches.")
@click.option("--out", type=RESULT_FILE, help="Where the JSON goes; as for overhead.")
def launches(batch_size: int, views: int, device: str, seed: int, out: Path | None) -> None:
    """Count what one training step of each arm launches on a GPU, and look for waits of the host."""
    result = launches_suite.measure(device, batch_size, views, seed)
    print_launches(console, result)
    write(out or result_path("launches", result), result)


@click.command(name="gpu-check", short_help="Everything a GPU can prove, in under eight minutes.")
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Folder for gpu-check.json and the logs.",
)
@click.pass_context
def gpu_check_command(ctx: click.Context, folder: Path) -> None:
    """Run the GPU's tests, the kernels, and training steps; compare what comes out with the goals.

    Exit code 1 means that something is wrong or did not end; a missed goal of speed does not. Without a GPU the parts
    that need one are listed as not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = check.run(folder, on_stage=lambda name: console.print(f"{name} …"))
    print_gpu_check(console, result)
    console.print(f"written to {folder / 'gpu-check.json'}", soft_wrap=True, markup=False)
    if result["interrupted"]:
        ctx.exit(130)
    if not check.all_passed(result):
        ctx.exit(1)


COMMANDS = (captured, training, launches, gpu_check_command)
