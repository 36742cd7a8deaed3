"""`dainv-bench resources`: options in, a table and a JSON file out."""

from __future__ import annotations

from pathlib import Path

import click

from dainv_bench.console import console, out_option, progress, written_to
from dainv_bench.resources.results import default_resources_path
from dainv_bench.resources.suite import measure_resources
from dainv_bench.resources.summary import README, resources_summary, rewrite_readme
from dainv_bench.resources.variants import TARGETS
from dainv_bench.results import write_result


@click.command(short_help="What the Triton kernels take of GPUs, by compiling them.")
@click.option("--target", "targets", multiple=True, help=f"{', '.join(TARGETS)}; may be repeated.  [default: all]")
@out_option("kernel-resources--triton-VERSION.json, if for all targets")
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
    path = out or default_resources_path(result)
    write_result(path, result)
    written_to(path)
    if rewrite_readme():
        console.print(f"table in {README} rewritten", soft_wrap=True, markup=False)
