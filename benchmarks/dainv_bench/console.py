"""What the commands share: the console, progress that does not disturb, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from dainv.cli.console import expect_writable
from dainv.reporting import progress_bar
from dainv_bench.progress import Tell
from dainv_bench.results import FOLDER, default_path

console = Console(highlight=False)


def out_option(default: str) -> Callable[[Any], Any]:
    """The option ``--out``; that nothing can be written there is found out before the work.

    Args:
        default: which file in the folder of results it is by default, for people.
    """

    def expected_to_be_writable(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
        expect_writable(path or FOLDER / "one.json")
        return path

    return click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=expected_to_be_writable,
        help=f"Where the JSON goes.  [default: {FOLDER}/{default}]",
    )


@contextmanager
def progress() -> Iterator[Tell]:
    """A progress bar; gives what is to be told what is going on, how much is done, and of how much."""
    bar = progress_bar(console)
    bar.live.auto_refresh = False  # a thread that draws would share the processor with what is timed
    with bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total, refresh=True)


def result_path(suite: str, result: Mapping[str, Any], quick: bool = False) -> Path:
    """Where a result goes by default. A rehearsal must not take the place of a measurement."""
    device = torch.device(result["settings"]["device"])
    return default_path(f"{suite}-quick" if quick else suite, result["environment"], device)


def written_to(path: Path) -> None:
    """Say where a result is."""
    console.print(f"written to {path}", soft_wrap=True, markup=False)
