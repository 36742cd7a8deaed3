"""Where the commands write to, and how a user's mistake ends them: with one line."""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dainv.errors import UserError, is_lack_of_memory

console = Console(highlight=False)

_SECONDS_FOR_RANK_0 = 5.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_IN_ASCII = {"−": "-", "–": "-", "…": "..", "×": "x", "→": "->", "σ": "sigma", "µ": "u"}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Error handler of encodings that do not have all characters: a likeness in ASCII, or an escape sequence."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    likeness = (_IN_ASCII.get(one) or ascii(one)[1:-1] for one in error.object[error.start : error.end])
    return "".join(likeness), error.end


codecs.register_error("dainv-ascii", _in_ascii)


def print_whole(table: Table) -> None:
    """Print a table as wide as it has to be: what is cut off cannot be read, nor copied."""
    width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    Console(highlight=False, width=max(width, console.width)).print(table)


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
    """Turns a user's mistake and a lack of memory or disk into one line and exit code 1, an interruption into 130."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program, also where the encoding of the output does not have every character."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="dainv-ascii")
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            with suppress(OSError):
                click.echo(f"error: {error.filename or 'the output'} cannot be written ({error.strerror})", err=True)
            with suppress(OSError, AttributeError):
                sys.stdout.close()  # else Python tries once more at its end, and says so
            sys.exit(1)

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
            if not is_lack_of_memory(error):
                raise
            size = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
            asked = f" (for another {size[1]})" if size else ""
            click.echo(f"error: out of memory{asked}; a smaller --batch-size needs less", err=True)
            ctx.exit(1)


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
