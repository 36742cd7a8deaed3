"""What every test folder shares: Triton's interpreter where there is no GPU, and the skipping of GPU tests."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Read by torch when it is imported. Workers that each start threads on all cores would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

HAS_CUDA = torch.cuda.is_available()
if not HAS_CUDA:
    # Triton reads this once, when it is imported. `import torch` does not import it, the first kernel or compile does.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_itemcollected(item: pytest.Item) -> None:
    # A set is printed in another order in each process: workers that then collect different names give up, sometimes.
    parameters = item.callspec.params.items() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    for name, value in parameters:
        if isinstance(value, (set, frozenset)):
            raise pytest.UsageError(f"{item.nodeid}: '{name}' is a set, in another order in each worker; use a tuple")


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Skipped here and not by a mark on each test, so that the summary has one line for all of them.
    if item.get_closest_marker("gpu") and not HAS_CUDA:
        pytest.skip("needs a CUDA device")
