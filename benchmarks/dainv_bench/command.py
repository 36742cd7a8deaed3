"""A suite as a command: options from its settings, progress while it measures, a summary and a JSON file at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, MISSING, Field, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from dainv_bench.console import console, out_option, progress, result_path, written_to
from dainv_bench.progress import Tell
from dainv_bench.results import kind_of, write_result
from dainv_bench.settings import SuiteSettings


@dataclass(frozen=True)
class Suite:
    """A suite and its command.

    Attributes:
        name: of both.
        settings: what it can be told; each field is an option.
        measure: told the settings, and whom to tell how far it is; yields what there is until then, at last all of it.
        show: prints a result.
        failed: whether a result makes the exit code 1.
        summary: of the command, in one line.
        description: of the command, in paragraphs.
        quick: what ``--quick`` leaves.
    """

    name: str
    settings: type[SuiteSettings]
    measure: Callable[[Any, Tell], Iterator[Mapping[str, Any]]]
    show: Callable[[Console, Any], None]
    failed: Callable[[Any], object] = lambda _result: False
    _: KW_ONLY
    summary: str
    description: str
    quick: str


def suite_command(suite: Suite) -> click.Command:
    """The command of a suite."""

    def run(quick: bool, out: Path | None, **options: Any) -> None:
        ctx = click.get_current_context()
        given = {name: v for name, v in options.items() if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
        settings = suite.settings(**{**suite.settings.preset(quick, given), **given})

        def path(result: Mapping[str, Any]) -> Path:
            return out or result_path(kind_of(result), result, quick)

        with progress() as tell:
            for result in suite.measure(settings, tell):
                write_result(path(result), result)
        suite.show(console, result)
        written_to(path(result))
        if result["interrupted"]:
            ctx.exit(130)
        if suite.failed(result):
            ctx.exit(1)

    options = [_option(one) for one in _own_first(suite.settings)]
    options += [click.option("--quick", is_flag=True, help=f"A rehearsal within a minute on two cores: {suite.quick}.")]
    options += [out_option(f"{suite.name}--MACHINE--DEVICE.json, {suite.name}-quick--... with --quick")]
    for option in reversed(options):
        run = option(run)
    return click.command(suite.name, short_help=suite.summary, help=suite.description)(run)


def _own_first(settings: type[SuiteSettings]) -> list[Field[Any]]:
    shared = {one.name for one in fields(SuiteSettings)}
    return sorted(fields(settings), key=lambda one: one.name in shared)


def _option(setting: Field[Any]) -> Callable[[Any], Any]:
    name, metadata = f"--{setting.name.replace('_', '-')}", dict(setting.metadata)
    default = setting.default
    if "option" in metadata:  # one that is read in a way of its own
        return click.option(name, help=metadata["help"], **metadata["option"])
    assert default is not MISSING
    if isinstance(default, tuple):
        text = ",".join(map(str, default))
        return click.option(name, default=text, help=metadata["help"], callback=partial(_several, type(default[0])))
    return click.option(name, default=default, is_flag=isinstance(default, bool), help=metadata["help"])


def _several(kind: type, _ctx: click.Context, _param: click.Parameter, text: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(one.strip()) for one in text.split(",") if one.strip())
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas between them, got {text!r}") from None


def above_the_limit(result: Mapping[str, Any]) -> bool:
    """Whether the whole interval of what is judged lies above its limit."""
    return result["verdict"] is not None and result["verdict"]["verdict"] == "above"
