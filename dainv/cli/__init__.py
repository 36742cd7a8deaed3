"""The command line: options in, calls to the parts, one line out when a user's mistake stops it. One file a command."""

from __future__ import annotations

from importlib import import_module

import click
from click.shell_completion import CompletionItem

from dainv._version import __version__
from dainv.cli.console import CommandGroup

# In the order of work; a module of this package has the command of its name.
_COMMANDS = {
    "train": "Train a network with the invariance objective.",
    "evaluate": "Accuracy of a trained run.",
    "analyze": "Invariance scores, loss dynamics, figures and a report of runs.",
    "score": "Invariance scores of any network.",
    "reproduce": "The paper's table and figures: both arms over seeds, scores, verdicts.",
    "layers": "The layers of a model.",
    "rdm": "Distances between images at every layer, for rsatoolbox.",
    "cka": "Linear CKA between layers, of one network or of two.",
    "env": "What a bug report needs.",
}


class _WhenUsed(CommandGroup):
    """Imports a command when it is used: that takes torch's seconds, which help and completion can do without."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, if there is one."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Their list in the help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names that begin so, and the group's own options."""
        names = [CompletionItem(name, help=about) for name, about in _COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=_WhenUsed, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="dainv")
def main() -> None:
    """Data augmentation invariance: train for it and measure it."""
