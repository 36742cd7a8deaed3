"""``dainv-bench scaling``: options in, a table, figures and a JSON file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dainv_bench.console import console, names, out_option, progress, result_path, write
from dainv_bench.scaling.axes import AXES
from dainv_bench.scaling.suite import ScalingSettings, measure
from dainv_bench.scaling.table import print_scaling

_default = ScalingSettings()
_QUICK_ROUNDS = 3


def _values(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = {}
    for text in given:
        axis, _, numbers = text.partition("=")
        try:
            found[axis.strip()] = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            raise click.BadParameter(f"expected AXIS=NUMBER,NUMBER,..., got {text!r}") from None
    return found


@click.command(short_help="How cost grows with B, M, D, L, N and ranks.")
@click.option("--axes", default=",".join(_default.axes), callback=names, help="What to vary, one at a time.")
@click.option(
    "--values", multiple=True, callback=_values, metavar="AXIS=N,N,...", help="Of an axis, in place of its own."
)
@click.option("--batch-size", default=_default.batch_size, help="B, samples in a batch.")
@click.option("--views", default=_default.views, help="M, views of each source image.")
@click.option("--features", default=_default.features, help="D, features of a sample.")
@click.option("--layers", default=_default.layers, help="L, layers.")
@click.option("--width", default=_default.width, help="Factor on the channels of the network that is scored.")
@click.option("--score-batch-size", default=_default.score_batch_size, help="Images at a time, where N is varied.")
@click.option("--repeats", default=_default.repeats, help="Transformations of each image, where N is varied.")
@click.option("--rounds", type=int, help=f"Times each is timed.  [default: {_default.rounds}]")
@click.option("--quick", is_flag=True, help="Few values, few rounds: a rehearsal.")
@click.option("--device", default=_default.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--seed", default=_default.seed, help="Of features, parameters, images and orders.")
@out_option("scaling")
@click.pass_context
def scaling(
    ctx: click.Context,
    quick: bool,
    axes: tuple[str, ...],
    values: dict[str, tuple[int, ...]],
    rounds: int | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Time the objective over B, M, D, L and ranks, and the scores over N, and fit how the times grow.

    Ctrl-C keeps the rounds that are finished.
    """
    settings = ScalingSettings(
        axes=axes,
        values=({name: axis.quick for name, axis in AXES.items()} if quick else {}) | values,
        rounds=rounds if rounds is not None else _QUICK_ROUNDS if quick else _default.rounds,
        **options,
    )
    with progress() as on_progress:
        result = measure(settings, on_progress)
    print_scaling(console, result)
    write(out or result_path("scaling", result, quick), result)
    if result["interrupted"]:
        ctx.exit(130)
