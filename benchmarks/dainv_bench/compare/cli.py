"""``dainv-bench compare``: two results in, what changed out."""

from __future__ import annotations

import math
from pathlib import Path

import click

from dainv.errors import UserError
from dainv_bench.compare.changes import changes_between
from dainv_bench.compare.differences import differences
from dainv_bench.compare.series import series_of
from dainv_bench.compare.table import print_changes, print_differences, print_header, print_summary
from dainv_bench.console import console
from dainv_bench.reading import read_result
from dainv_bench.results import kind_of


@click.command(short_help="What changed from one result to another, beyond noise.")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--fail-above",
    type=click.FloatRange(min=0, max=1e6),
    metavar="PERCENT",
    help="End with exit code 1 if anything is slower in B by more than that, beyond noise.",
)
@click.pass_context
def compare(ctx: click.Context, a: Path, b: Path, fail_above: float | None) -> None:
    """Compare two results of the same suite, A before and B after.

    A change is beyond noise where it is larger than 1 % and the 95 % interval of B / A excludes 1.
    """
    if fail_above is not None and math.isnan(fail_above):
        raise UserError("--fail-above: expected a percentage, got nan")
    one, other = read_result(a), read_result(b)
    if kind_of(one) != kind_of(other):
        raise UserError(f"{a} is a result of {kind_of(one)} and {b} of {kind_of(other)}: nothing to compare")
    changes, alone = changes_between(series_of(one, str(a)), series_of(other, str(b)))
    if not changes:
        raise UserError(f"{a} and {b}: nothing is timed in both")
    print_header(console, {"A": str(a), "B": str(b)}, {"A": one, "B": other})
    print_differences(console, differences(one, other))
    print_changes(console, changes)
    print_summary(console, changes, alone)
    if fail_above is not None:
        failed = [", ".join(filter(None, key)) for key, change in changes.items() if change.slower_by(fail_above)]
        if failed:
            console.print(f"slower by more than {fail_above:g} %: {'; '.join(failed)}", soft_wrap=True, markup=False)
            ctx.exit(1)
