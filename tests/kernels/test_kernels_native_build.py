"""Where the native kernel's library comes from: the compiler, the cache, and what is said where there is none."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kernels_checks import assert_true
from kernels_inputs import grouped

from dainv_kernels import Groups, backend_status, invariance_loss, native, native_build
from dainv_kernels.backends import choose_backend

K, M = 16, 8
IDS = torch.arange(K).repeat_interleave(M)

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="native kernels need a C compiler")


@pytest.fixture
def nothing_loaded() -> Iterator[None]:
    native_build.library.cache_clear()
    yield
    native_build.library.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_loaded: None) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "dainv"


def libraries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def compiler(path: Path, script: str) -> str:
    """An executable of that script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


# Compiling and keeping


def test_compiled_once_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.why_not() is None
    (name,) = libraries(folder)
    made = (folder / name).stat().st_mtime_ns
    native_build.library.cache_clear()
    monkeypatch.setattr(native_build, "_compiled", lambda *_: pytest.fail("compiled again"))
    assert native.why_not() is None
    assert (folder / name).stat().st_mtime_ns == made


def test_each_dtype_has_a_library_of_its_own(folder: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert not isinstance(native_build.library(dtype), native_build.BuildError)
    assert [name.split("-")[2] for name in libraries(folder)] == ["bfloat16", "float32"]


@pytest.mark.parametrize("changed", ["source", "flags", "CPU"])
def test_a_change_of_what_it_was_made_from_makes_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    command = ["cc", "-DFLOAT32", *native_build._FLAGS]
    before = native_build._fingerprint(command)
    assert native_build._fingerprint(command) == before
    if changed == "source":
        other = tmp_path / "other.c"
        other.write_text(native_build._SOURCE.read_text() + "\n")
        monkeypatch.setattr(native_build, "_SOURCE", other)
    elif changed == "flags":
        command.append("-g")
    else:
        monkeypatch.setattr(native_build, "_cpu", lambda: "abacus")
    assert native_build._fingerprint(command) != before


@pytest.mark.parametrize("left", [0, 10, 1000, 5000, -1])
def test_a_library_that_is_not_whole_is_made_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    assert native.why_not() is None
    (name,) = libraries(folder)
    other = tmp_path / "other" / "dainv"  # another path: what is loaded already would not be opened again
    other.mkdir(parents=True)
    (other / name).write_bytes((folder / name).read_bytes()[:left])  # loading most of these would end the process
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    native_build.library.cache_clear()
    assert native.why_not() is None
    assert (other / name).stat().st_size == (folder / name).stat().st_size


@pytest.mark.parametrize("others", ["own it", "may write to it"])
def test_a_folder_of_others_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch, others: str) -> None:
    folder.mkdir()
    if others == "own it":
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    else:
        folder.chmod(0o777)
    assert native.why_not() is None
    assert libraries(folder) == []


def test_others_cannot_write_to_the_folder(folder: Path) -> None:
    assert native.why_not() is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_processes_that_build_at_once_do_not_disturb_one_another(folder: Path) -> None:
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            os._exit(0 if native.why_not() is None else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert len(libraries(folder)) == 1  # and nothing unfinished


@pytest.mark.parametrize("home", ["a file is in its place", "no home"])
def test_works_where_nothing_can_be_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    if home == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")

        def nowhere() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(native_build.Path, "home", nowhere)
    else:
        folder.write_text("")  # a read-only folder would stop nobody who is root
    assert native.why_not() is None
    assert_true(grouped(IDS, 30).float(), IDS, "native")


# Where it does not work


COMPILERS = {
    "fails": ("echo '/home/someone/x.c:1:2: error: no such luck' >&2; exit 1", "no such luck"),
    "says nothing": ("exit 3", "exit status 3"),
    "has no OpenMP": (
        "echo '/usr/bin/ld: cannot find -lgomp: No such file' >&2; echo 'collect2: error: ld returned 1' >&2; exit 1",
        "cannot find -lgomp",
    ),
    "makes another library": (
        f"[ $1 = --version ] && exit; exec {shutil.which('cc')} -shared -x c /dev/null "
        "-o $(echo $* | sed 's/.*-o //;s/ .*//')",
        "lacks a function",
    ),
    "makes no library": (
        "while [ $# -gt 1 ]; do [ $1 = -o ] && echo > $2; shift; done; exit 0",
        "does not load",
    ),
}


@pytest.mark.parametrize("kind", COMPILERS)
def test_a_broken_compiler_leaves_the_work_to_torch_and_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    script, reason = COMPILERS[kind]
    monkeypatch.setenv("CC", compiler(tmp_path / "broken-cc", script))
    x = grouped(IDS, 30).float()
    status = backend_status()["native"]
    assert reason in status
    assert "\n" not in status
    assert str(tmp_path) not in status  # reasons are published with results
    assert "someone" not in status
    assert choose_backend("auto", x) == "torch"
    assert_true(x, IDS, "auto")
    with pytest.raises(RuntimeError, match=f"backend 'native' does not work here: .*{reason}"):
        invariance_loss(x, IDS, backend="native")


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("CC", "no-such-compiler -O2", "no-such-compiler cannot be run (No such file or directory)"),
        ("CC", "cc '", "CC is not a command (No closing quotation)"),
        ("PATH", "", "no C compiler"),
        ("DAINV_NATIVE", "0", "switched off (DAINV_NATIVE=0)"),
    ],
)
def test_no_compiler_and_the_switch_say_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert reason in backend_status()["native"]
    assert not folder.exists()


def test_a_missing_source_says_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_build, "_SOURCE", tmp_path / "native.c")
    assert native.why_not() == "native.c is not installed"


def test_cc_is_the_compiler_that_is_used(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compiler(tmp_path / "my-cc", f'echo "$@" >> {tmp_path}/calls; exec {shutil.which("cc")} "$@"')
    monkeypatch.setenv("CC", f"{path} -DMINE")
    assert native.why_not() is None
    assert "-DMINE -DFLOAT32" in (tmp_path / "calls").read_text()


def test_a_graph_compiled_for_it_runs_where_it_does_not_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAINV_NATIVE", "0")
    x, groups = grouped(IDS, 5).float(), Groups.consecutive(K, M)
    torch._dynamo.reset()
    graph = torch.compile(lambda x: invariance_loss(x, groups), fullgraph=True, backend="eager")
    assert torch.equal(graph(x), invariance_loss(x, groups, backend="torch"))
