"""The command line: options in, calls to the parts, one line out when a user's mistake stops it. One file a command."""

from __future__ import annotations

import click

from dainv._version import __version__
from dainv.cli.analyze import analyze
from dainv.cli.cka import cka
from dainv.cli.console import CommandGroup
from dainv.cli.env import env
from dainv.cli.evaluate import evaluate
from dainv.cli.layers import layers
from dainv.cli.rdm import rdm
from dainv.cli.reproduce import reproduce
from dainv.cli.score import score
from dainv.cli.train import train


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="dainv")
def main() -> None:
    """Data augmentation invariance: train for it and measure it."""


for command in (train, evaluate, analyze, score, reproduce, layers, rdm, cka, env):
    main.add_command(command)
