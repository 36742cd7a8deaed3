"""The command line of the benchmarks: options in, a table and a JSON file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dainv import __version__
from dainv.cli import CommandGroup
from dainv_bench.compare.cli import compare
from dainv_bench.compilation import TARGETS
from dainv_bench.console import RESULT_FILE, console, names, out_option, progress, result_path, write
from dainv_bench.gpu_cli import COMMANDS
from dainv_bench.overhead import OverheadSettings, measure
from dainv_bench.report.cli import report
from dainv_bench.resources import README, default_resources_path, measure_resources, resources_summary, rewrite_readme
from dainv_bench.results import FOLDER
from dainv_bench.scaling.cli import scaling
from dainv_bench.scores.cli import scores
from dainv_bench.tables import print_overhead


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="dainv-bench")
def main() -> None:
    """Measure what data augmentation invariance costs."""


_default = OverheadSettings()
_EPOCHS: dict[str, Any] = {"rounds": 3, "warmup": 1}
_QUICK: dict[str, Any] = {
    "rounds": 3,
    "warmup": 1,
    "arms": ("baseline", "published", "closed-form", "ours", "ours-relu"),
}


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
    "--quick", is_flag=True, help=f"Only {_QUICK['rounds']} rounds of half of the arms, in a minute on two cores."
)
@click.option(
    "--arms", callback=names, help=f"What to compare with the baseline.  [default: {','.join(_default.arms)}]"
)
@click.option("--limit", default=_default.limit, help="Percent of a step the objective may cost; 10 is the paper's.")
@click.option("--device", default=_default.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--seed", default=_default.seed, help="Of parameters, batches and orders.")
@out_option("overhead")
@click.pass_context
def overhead(
    ctx: click.Context,
    rounds: int | None,
    warmup: int | None,
    quick: bool,
    arms: tuple[str, ...] | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Time a training step of All-CNN-C with and without the objective, side by side.

    Ends with exit code 1 where the objective costs more than the limit. Ctrl-C keeps the rounds that are finished.
    """
    asked = {"rounds": rounds, "warmup": warmup, "arms": arms}
    preset = {**(_EPOCHS if options["epoch"] else {}), **(_QUICK if quick else {})}
    preset.update({name: value for name, value in asked.items() if value is not None})
    settings = OverheadSettings(**preset, **options)
    with progress() as on_progress:
        result = measure(settings, on_progress)
    print_overhead(console, result)
    write(out or result_path("overhead-epoch" if options["epoch"] else "overhead", result, quick), result)
    if result["interrupted"]:
        ctx.exit(130)
    if result["verdict"] and result["verdict"]["verdict"] == "above":
        ctx.exit(1)


@main.command(short_help="What the Triton kernels take of GPUs, by compiling them.")
@click.option("--target", "targets", multiple=True, help=f"{', '.join(TARGETS)}; may be repeated.  [default: all]")
@click.option(
    "--out",
    type=RESULT_FILE,
    help=f"Where the JSON goes.  [default: {FOLDER}/kernel-resources--triton-VERSION.json, if for all targets]",
)
def resources(targets: tuple[str, ...], out: Path | None) -> None:
    """Compile every Triton kernel for every target, on any machine, and write what each takes of a GPU.

    Registers, spills, shared memory and the width of loads and stores are read from the machine code. In a checkout
    the table in kernels/README.md is rewritten from the results.
    """
    with progress() as on_progress:
        result = measure_resources(targets or tuple(TARGETS), on_progress)
    for line in resources_summary(result):
        console.print(line, soft_wrap=True, markup=False)
    if out is None and targets:
        return  # some targets must not take the place of all
    write(out or default_resources_path(result), result)
    if rewrite_readme():
        console.print(f"table in {README} rewritten", soft_wrap=True, markup=False)


for command in (*COMMANDS, scores, scaling, report, compare):
    main.add_command(command)
