"""Code that is not ours: a function of the user's by name, and what is said in one line when such code fails."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dainv.errors import UserError


def function_named(name: str) -> Callable[..., Any]:
    """What ``module:function`` stands for; the current directory is searched too.

    Raises:
        UserError: no such module or function, a module that cannot be imported, or something that cannot be called.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{name}: {first_line(error)}") from error
    except Exception as error:  # importing a module runs it
        raise UserError(f"{name}: {blame(error)}") from error
    finally:
        sys.path.pop(0)
    if not callable(function):
        raise UserError(f"{name}: is a {type(function).__name__}, expected a function")
    called: Callable[..., Any] = function
    return called


def first_line(error: Exception) -> str:
    """What went wrong; of a TorchScript program the last line, as a trace comes before it; of a mute error its type."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if "TorchScript interpreter" in lines[0] else lines[0]


def blame(error: Exception) -> str:
    """Type, message and place of an error in someone's code."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({Path(where.filename).name}, line {where.lineno})"
