"""What is imported when: torch takes seconds, and help, completion and the version can do without."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import dainv.cli
from dainv.cli import main

HEAVY = ("torch", "numpy", "matplotlib", "torchvision", "sklearn", "triton")
RUN = f"""
import sys
from dainv.cli import main
try:
    main(prog_name="dainv")
finally:
    print("imported:", *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "environment", "answer"),
    [
        (["--help"], {}, "Invariance scores of any network."),
        (["--version"], {}, dainv.__version__),
        (["anlayze"], {}, ""),
        *((["score", "--help"], {}, "--variance-ratio"), (["layers", "--help"], {}, "--pattern")),
        *((["rdm", "--help"], {}, "--indices"), (["cka", "--help"], {}, "--other-layers")),
        *((["evaluate", "--help"], {}, "[newest|best]"), (["analyze", "--help"], {}, "[newest|best]")),
        *((["train", "--help"], {}, "[auto|always|never]"), (["reproduce", "--help"], {}, "--budget")),
        (["env", "--help"], {}, "Versions"),
        ([], {"_DAINV_COMPLETE": "zsh_complete", "COMP_WORDS": "dainv s", "COMP_CWORD": "1"}, "score"),
    ],
    ids=[
        *("help", "version", "a mistyped command"),
        *("score", "layers", "rdm", "cka", "evaluate", "analyze", "train", "reproduce", "env"),
        "completion",
    ],
)
def test_what_computes_nothing_imports_no_torch(arguments, environment, answer):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer in done.stdout
    assert done.stderr.splitlines()[-1] == "imported:"


def test_the_listed_commands_are_those_that_run():
    context = click.Context(main)
    names = main.list_commands(context)
    modules = {path.stem for path in Path(dainv.cli.__file__).parent.glob("*.py")} - {"__init__", "console", "options"}
    assert set(names) == modules
    for name in names:
        assert main.get_command(context, name).name == name
    assert main.get_command(context, "no-such-command") is None


def test_a_command_that_cannot_be_imported_says_why(monkeypatch):
    monkeypatch.delattr("dainv.cli.options.images")
    monkeypatch.delitem(sys.modules, "dainv.cli.rdm", raising=False)
    monkeypatch.delitem(sys.modules, "dainv.cli.score", raising=False)
    result = CliRunner().invoke(main, ["score", "--help"])
    assert isinstance(result.exception, AttributeError)
    assert "has no attribute 'images'" in str(result.exception)


def test_public_names_are_listed_and_found():
    assert set(dainv.__all__) <= set(dir(dainv))
    names = {}
    exec("from dainv import *", names)
    for name in dainv.__all__:
        assert names[name] is getattr(dainv, name)
    with pytest.raises(AttributeError, match=r"module 'dainv' has no attribute 'invariance_los'"):
        dainv.invariance_los  # noqa: B018
