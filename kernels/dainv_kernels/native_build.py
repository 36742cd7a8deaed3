"""``native_closed_form.c``, compiled by the system's C compiler when it is first needed, and kept for the next time.

Nothing of Python or torch is compiled in: a library is called with addresses and numbers. There is one for each dtype
of features. It lies in the user's cache folder under a name that says what it was made from, by what, and for which
CPU, so that a change of any of these makes a new one.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

_SOURCE = Path(__file__).with_name("native_closed_form.c")
# Without the last two a loop with a ReLU is not vectorised; neither changes a number.
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_TIMEOUT = 120  # seconds; it takes about one

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_COMMON = [_POINTER, _LONG, _LONG, _LONG, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _INT]
_ARGUMENTS = {
    "forward": [*_COMMON, _POINTER, _LONG, _POINTER, _LONG, _LONG, _POINTER, _POINTER, _POINTER, _POINTER],
    "backward": [*_COMMON, _POINTER, _POINTER, _POINTER, _POINTER, _LONG, _POINTER, _LONG, _INT],
}

# What tells CPUs with different instructions apart in /proc/cpuinfo, on x86 and on ARM.
_CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "CPU part", "Features")


class BuildError(Exception):
    """Why there is no library, in one line without a path."""


@cache
def library(dtype: torch.dtype) -> ctypes.CDLL | BuildError:
    """The functions of the C file for features of a dtype, or why there are none; compiled once at most a process."""
    try:
        found = _load_or_compile(str(dtype).removeprefix("torch."))
        for name, arguments in _ARGUMENTS.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, ctypes.c_bool
    except BuildError as error:
        return error
    except AttributeError:
        return BuildError("what was compiled lacks a function")
    return found


def _load_or_compile(dtype: str) -> ctypes.CDLL:
    if os.environ.get("DAINV_NATIVE") == "0":
        raise BuildError("switched off (DAINV_NATIVE=0)")
    command = [*_compiler(), f"-D{dtype.upper()}", *_FLAGS]
    name = f"closed-form-{dtype}-{_fingerprint(command)}.so"
    with contextlib.suppress(OSError, RuntimeError):  # no home, or a folder that nothing can be kept in or run from
        kept = _cache_folder() / name
        with contextlib.suppress(OSError):  # none yet, or it does not load: made again
            if _is_whole(kept):
                return ctypes.CDLL(str(kept))
        return _compiled(command, kept)
    try:
        # A folder of this process alone: nobody else can put something in its place. A library that has been loaded
        # does not need its file.
        with tempfile.TemporaryDirectory(prefix="dainv-") as folder:
            return _compiled(command, Path(folder) / name)
    except OSError as error:
        raise BuildError(f"what was compiled does not load ({_without_path(str(error))})") from error


def _cache_folder() -> Path:
    """A folder that this user alone can write to: what lies there is run.

    Raises:
        OSError: it cannot be made, or is somebody else's.
        RuntimeError: no home.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dainv"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise PermissionError("others can write to the cache folder")
    return folder


def _compiler() -> list[str]:
    """The command of the C compiler: ``CC``, as everywhere, or the first that is found."""
    try:
        if named := shlex.split(os.environ.get("CC", "")):
            return named
    except ValueError as error:
        raise BuildError(f"CC is not a command ({error})") from error
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise BuildError("no C compiler (cc, gcc or clang)")


def _fingerprint(command: list[str]) -> str:
    """Of all that the library depends on: source, command, version of the compiler, CPU."""
    version = _run([*_compiler(), "--version"])  # all of CC: it may begin with a cache's name
    if not _SOURCE.is_file():
        raise BuildError(f"{_SOURCE.name} is not installed")
    made_from = [_SOURCE.read_text(encoding="utf-8"), shlex.join(command), version, _cpu()]
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:16]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(line for line in lines if line.split(":")[0].strip() in _CPU_FIELDS)


def _compiled(command: list[str], target: Path) -> ctypes.CDLL:
    """Compile under a name of our own and rename: other processes see all of a file or none.

    Raises:
        BuildError: the compiler does not work.
        OSError: nothing can be written there, or the result cannot be loaded from there.
    """
    handle, unfinished = tempfile.mkstemp(prefix=target.stem, suffix=".unfinished", dir=target.parent)
    os.close(handle)
    try:
        _run([*command, "-o", unfinished, str(_SOURCE), "-lm"])
        _seal(Path(unfinished))
        os.replace(unfinished, target)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return ctypes.CDLL(str(target))


def _seal(path: Path) -> None:
    """Append a digest: loading a file that has lost a part can end the process."""
    content = path.read_bytes()
    path.write_bytes(content + hashlib.sha256(content).digest())


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


def _run(command: list[str]) -> str:
    """What a command prints.

    Raises:
        BuildError: it cannot be run, or fails.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no answer within {_TIMEOUT} s"
        raise BuildError(f"the C compiler {Path(command[0]).name} cannot be run ({reason})") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        # The linker's own line comes before the one that says that it has failed.
        telling = next((line for line in lines if "error" in line and "ld returned" not in line), lines[0])
        raise BuildError(f"the C compiler {Path(command[0]).name} fails ({_without_path(telling)})")
    return done.stdout


def _without_path(message: str) -> str:
    """A message whose parts are divided by colons, without those with a path: reasons are published, paths are not."""
    return ": ".join(part for part in message.split(": ") if "/" not in part) or "it names a file only"
