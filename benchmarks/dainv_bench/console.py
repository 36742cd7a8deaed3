"""What the commands share: the console, progress that does not disturb, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from dainv.reporting import progress_bar
from dainv_bench.results import FOLDER, default_path, write_result
from dainv_bench.steps import Tell

console = Console(highlight=False)
RESULT_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


def out_option(suite: str) -> Callable[[Any], Any]:
    """The option ``--out`` of a suite that is named so."""
    where = f"{FOLDER}/{suite}--MACHINE--DEVICE.json, {suite}-quick--... with --quick"
    return click.option("--out", type=RESULT_FILE, help=f"Where the JSON goes.  [default: {where}]")


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


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result and say where it is."""
    write_result(path, result)
    console.print(f"written to {path}", soft_wrap=True, markup=False)
