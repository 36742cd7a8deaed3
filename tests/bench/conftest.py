"""Tests of the benchmarks measure nothing: they take as little of the machine as they can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dainv_bench.kernels import bandwidth


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads and lose much to them when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def _small_copies() -> Iterator[None]:
    """Of kilobytes, as if the cache of a CPU held no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bandwidth._COPY_BYTES, "cpu", 1 << 16)
        patch.setattr(bandwidth, "_CPU_CACHE_BYTES", 1 << 16)
        yield


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, in a terminal of the usual width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
