"""``dainv-bench scores``: options in, a table and a JSON file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dainv_bench.console import console, names, out_option, progress, result_path, write
from dainv_bench.scores.suite import ScoresSettings, measure
from dainv_bench.scores.table import print_scores

_default = ScoresSettings()
_QUICK: dict[str, Any] = {"sizes": (32, 64), "rounds": 3}


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    try:
        return None if value is None else tuple(int(number) for number in value.split(",") if number.strip())
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas between them, got {value!r}") from None


@click.command(short_help="Invariance scores against the forward passes and the N x N way.")
@click.option("--sizes", callback=_numbers, help=f"N, images scored.  [default: {','.join(map(str, _default.sizes))}]")
@click.option("--repeats", default=_default.repeats, help="Transformations of each image.")
@click.option("--batch-size", default=_default.batch_size, help="Images at a time.")
@click.option("--width", default=_default.width, help="Factor on the channels of the network.")
@click.option("--batch-norm/--no-batch-norm", default=_default.batch_norm, help="Normalise after every convolution.")
@click.option("--rounds", type=int, help=f"Times each is timed.  [default: {_default.rounds}]")
@click.option("--quick", is_flag=True, help="Few images, few rounds: a rehearsal.")
@click.option(
    "--arms", default=",".join(_default.arms), callback=names, help="What to compare with the forward passes."
)
@click.option("--memory-limit", default=_default.memory_limit, help="GiB; an arm known to need more is not run.")
@click.option("--limit", default=_default.limit, help="Times the forward passes that streaming may cost.")
@click.option("--device", default=_default.device, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--seed", default=_default.seed, help="Of parameters, images, transformations and orders.")
@out_option("scores")
@click.pass_context
def scores(ctx: click.Context, quick: bool, out: Path | None, **options: Any) -> None:
    """Time and weigh the invariance scores of Eq. 2, side by side with the forward passes and with all pairs.

    Ends with exit code 1 where streaming costs more than the limit. Ctrl-C keeps the rounds that are finished.
    """
    given = {name: value for name, value in options.items() if value is not None}
    settings = ScoresSettings(**((_QUICK if quick else {}) | given))
    with progress("checking that all arms agree") as on_progress:
        result = measure(settings, on_progress)
    print_scores(console, result)
    write(out or result_path("scores", result, quick), result)
    if result["interrupted"]:
        ctx.exit(130)
    if result["verdict"] and result["verdict"]["verdict"] == "above":
        ctx.exit(1)
