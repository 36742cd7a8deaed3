"""The commands about what a GPU can show: options in, tables and JSON files out."""

from __future__ import annotations

from pathlib import Path

import click

from dainv.cli.console import expect_writable
from dainv_bench.console import console, out_option, result_path, written_to
from dainv_bench.gpu import check
from dainv_bench.gpu import launches as launches_suite
from dainv_bench.gpu.summary import print_gpu_check, summarise_launches
from dainv_bench.results import write_result
from dainv_bench.summary import print_summary


@click.command(short_help="What a step launches, and whether the host waits.")
@click.option("--batch-size", default=128, help="B, samples in a batch.")
@click.option("--views", default=8, help="M, views of each source image.")
@click.option("--device", default="auto", help="auto, cuda, cuda:1, ...")
@click.option("--seed", default=0, help="Of parameters and batches.")
@out_option("launches--MACHINE--DEVICE.json")
def launches(batch_size: int, views: int, device: str, seed: int, out: Path | None) -> None:
    """Count what one training step of each arm launches on a GPU, and look for waits of the host."""
    result = launches_suite.measure(device, batch_size, views, seed)
    print_summary(console, summarise_launches(result), result)
    path = out or result_path("launches", result)
    write_result(path, result)
    written_to(path)


@click.command(name="gpu-check", short_help="Everything a GPU can prove, in under eight minutes.")
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Folder for gpu-check.json and gpu-check.log.",
)
@click.pass_context
def gpu_check_command(ctx: click.Context, folder: Path) -> None:
    """Run the GPU's tests, the kernels, and training steps; compare what comes out with the goals.

    Exit code 1 means that something is wrong or did not end; a missed goal of speed does not. Without a GPU the parts
    that need one are listed as not run.
    """
    expect_writable(folder / check.RESULT)
    result = check.run(folder, on_stage=lambda name: console.print(f"{name} …"))
    print_gpu_check(console, result)
    written_to(folder / check.RESULT)
    if result["interrupted"]:
        ctx.exit(130)
    if not check.all_passed(result):
        ctx.exit(1)


COMMANDS = (launches, gpu_check_command)
