"""How training looks in a terminal, and in a log file."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text


class Reporter(Protocol):
    """Who is told how training goes."""

    def step(self, step: int, total_steps: int, epoch: int, loss: float, images_per_second: float) -> None:
        """Every step, or every so many where reading the loss makes the host wait for the device."""

    def epoch(self, record: dict[str, Any]) -> None:
        """After an epoch, with what went into metrics.jsonl."""

    def message(self, text: str) -> None:
        """Something worth knowing."""


def progress_bar(console: Console) -> Progress:
    """A bar with counts and time left; draws nothing where the output is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def say(console: Console, what: RenderableType) -> None:
    """Print. A run does not end because its log is on a full disk, or its terminal or its pipe's reader is gone."""
    with suppress(OSError, SystemExit):  # what rich makes of a closed pipe, after it has put an end to all output
        console.print(what, soft_wrap=True)


class SilentReporter:
    """Says nothing: one of several processes does for all."""

    def step(self, step: int, total_steps: int, epoch: int, loss: float, images_per_second: float) -> None:
        """Nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""


class ConsoleReporter:
    """A bar over the whole run on a terminal, and a line an epoch anywhere.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = progress_bar(console)
        self._task = self._progress.add_task("preparing", total=None)

    def __enter__(self) -> ConsoleReporter:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Take the bar away."""
        with suppress(OSError, SystemExit):
            self._progress.stop()

    def step(self, step: int, total_steps: int, epoch: int, loss: float, images_per_second: float) -> None:
        """Move the bar."""
        description = f"epoch {epoch}  loss {loss:.4f}  {images_per_second:.0f} images/s"
        self._progress.update(self._task, completed=step, total=total_steps, description=description)

    def epoch(self, record: dict[str, Any]) -> None:
        """Print the line of an epoch."""
        invariance = list(record["train"]["invariance"].values())
        speed = record["images_per_second"]
        line = (
            f"epoch {record['epoch']:>3}  loss {record['train']['loss']:.3f}  task {record['train']['task']:.3f}  "
            f"inv {invariance[0]:.3f}…{invariance[-1]:.3f}  test {100 * record['test']['accuracy']:.2f} %"
        )
        say(self._console, Text(line + ("" if speed is None else f"  {speed:.0f} images/s")))

    def message(self, text: str) -> None:
        """Print a note."""
        say(self._console, Text(text, style="yellow"))
