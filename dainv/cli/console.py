"""Where the commands write to, and how a user's mistake ends them: with one line."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from dainv.errors import UserError

console = Console(highlight=False)


class CommandGroup(click.Group):
    """Turns a user's mistake into one line and exit code 1, an interruption into 130."""

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
