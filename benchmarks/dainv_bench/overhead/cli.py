"""`dainv-bench overhead`: options in, a table and a JSON file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dainv_bench.console import console, names, out_option, progress, result_path, write
from dainv_bench.overhead.suite import OverheadSettings, measure
from dainv_bench.overhead.table import print_overhead

_default = OverheadSettings()
_EPOCHS: dict[str, Any] = {"rounds": 3, "warmup": 1}
_QUICK: dict[str, Any] = {
    "rounds": 3,
    "warmup": 1,
    "arms": ("baseline", "published", "closed-form", "ours", "ours-relu"),
}


@click.command(short_help="What the objective adds to a training step.")
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
