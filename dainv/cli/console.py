"""Where the commands write to, and how a user's mistake ends them: with one line."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dainv.errors import UserError

console = Console(highlight=False)

_SECONDS_FOR_RANK_0 = 5.0


def expect_writable(path: Path) -> None:
    """Find out before the work begins whether a file can be written at its end; nothing is left.

    Raises:
        UserError: it cannot.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        folder = next(one for one in path.absolute().parents if one.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out: {path} cannot be written ({error.strerror})") from None


class CommandGroup(click.Group):
    """Turns a user's mistake and a lack of memory into one line and exit code 1, an interruption into 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except Exception as error:
            if not _is_lack_of_memory(error):
                raise
            size = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
            asked = f" (for another {size[1]})" if size else ""
            click.echo(f"error: out of memory{asked}; a smaller --batch-size needs less", err=True)
            ctx.exit(1)


def _is_lack_of_memory(error: Exception) -> bool:
    """Known by its name and its text: torch, which has an error of its own for GPUs only, may not be imported yet."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "can't allocate memory" in str(error)


class OfSeveral(click.Command):
    """A command that torchrun may start several times: rank 0 tells a mistake that all of them meet."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options."""
        with _rank_0_speaks():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with _rank_0_speaks():
            return super().invoke(ctx)


@contextmanager
def _rank_0_speaks() -> Iterator[None]:
    """Let the others wait with an error: rank 0 ends with it meanwhile, and torchrun then ends them."""
    try:
        yield
    except (UserError, click.ClickException):
        if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK") != "0":
            time.sleep(_SECONDS_FOR_RANK_0)
        raise
