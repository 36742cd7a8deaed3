"""The command line of the benchmarks: options in, table and JSON out."""

from __future__ import annotations

import click

from dainv import __version__
from dainv.cli import CommandGroup
from dainv_bench.command import suite_command
from dainv_bench.compare.cli import compare
from dainv_bench.gpu.cli import COMMANDS as GPU_COMMANDS
from dainv_bench.report.cli import report
from dainv_bench.resources.cli import resources
from dainv_bench.suites import SUITES


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="dainv-bench")
def main() -> None:
    """Measure what data augmentation invariance costs."""


for command in (*map(suite_command, SUITES), resources, *GPU_COMMANDS, report, compare):
    main.add_command(command)
