"""`dainv env`."""

from __future__ import annotations

from typing import Any

import click

from dainv.cli.console import console


@click.command()
def env() -> None:
    """Versions, hardware, commit, and which backends work here and why not."""
    from dainv.environment import environment

    def rows(value: dict[str, Any], prefix: str = "") -> None:
        for key, item in value.items():
            if isinstance(item, dict):
                rows(item, f"{prefix}{key}.")
            else:
                shown = ", ".join(item) or "none" if isinstance(item, list) else str(item)
                console.print(f"{prefix + key:<24} {shown}", soft_wrap=True)

    rows(environment())
