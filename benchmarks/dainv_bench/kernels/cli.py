"""`dainv-bench kernels`: options in, tables and a JSON file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dainv_bench.console import console, names, out_option, progress, result_path, write
from dainv_bench.kernels import suite
from dainv_bench.kernels.suite import KernelSettings, KernelsResult
from dainv_bench.kernels.table import print_kernels
from dainv_bench.results import write_result

_kernels = KernelSettings()


@click.command(short_help="The operator alone, forward and backward, against bandwidth and peers.")
@click.option("--workloads", callback=names, help="Names or patterns of what to time.  [default: all]")
@click.option(
    "--methods", default=",".join(_kernels.methods), callback=names, help="Names or patterns of who is timed."
)
@click.option("--backend", default=_kernels.backend, help="Of our own only this one.")
@click.option("--dtype", callback=names, help=f"Of the features.  [default: {','.join(_kernels.dtype)}]")
@click.option("--batch-size", default=_kernels.batch_size, help="B, samples in a batch.")
@click.option("--views", default=_kernels.views, help="M, views of each source image.")
@click.option("--rounds", type=int, help=f"Times each is timed.  [default: {_kernels.rounds}]")
@click.option("--seconds", type=float, help=f"Begin no workload after so many.  [default: {_kernels.seconds:g}]")
@click.option("--quick", is_flag=True, help="Two small layers, few rounds, no compiler: a rehearsal.")
@click.option("--device", default=_kernels.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--seed", default=_kernels.seed, help="Of features and orders.")
@out_option("kernels")
@click.pass_context
def kernels(ctx: click.Context, quick: bool, out: Path | None, **options: Any) -> None:
    """Time forward, backward and both of every backend and every peer, over shapes, dtypes and layouts.

    Errors against float64 come first; who is wrong is not timed and ends the run with exit code 1. Ctrl-C keeps what
    is finished.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if quick:
        given = {"rounds": 5, "dtype": ("float32",), "workloads": ("layer6-8", "layer9")} | given
        if given["methods"] == _kernels.methods:
            given["methods"] = tuple(name for name in suite.methods() if name != "compiled")

    def keep(result: KernelsResult) -> None:
        write_result(out or result_path("kernels", result, quick), result)

    with progress() as on_progress:
        result = suite.measure(KernelSettings(**given), on_progress, keep)
    print_kernels(console, result)
    write(out or result_path("kernels", result, quick), result)
    if result["interrupted"]:
        ctx.exit(130)
    if suite.wrong_methods(result):
        ctx.exit(1)
