"""The same input gives the same bits, and every output is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps

import pytest
import torch
from kernels_checks import assert_true, evaluate
from kernels_inputs import CONSECUTIVE, PARTITIONS, D, consecutive_groups, grouped
from torch import Tensor

from dainv_kernels import pairwise_mse

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
partitions = pytest.mark.parametrize("partition", ["consecutive", "ragged-shuffled"])


@pytest.mark.usefixtures("two_threads")
@partitions
@dtypes
def test_two_runs_give_the_same_bits(backend: str, device: torch.device, dtype: torch.dtype, partition: str) -> None:
    x, ids = grouped(PARTITIONS[partition], 640).to(device, dtype), PARTITIONS[partition].to(device)
    first, second = evaluate(x, ids, backend), evaluate(x.clone(), ids.clone(), backend)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """New floating-point memory holds NaN, so that an element that nobody writes is seen."""

    def fill(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @wraps(make)
        def filled(*args: object, **kwargs: object) -> Tensor:
            made = make(*args, **kwargs)
            return made.fill_(float("nan")) if made.is_floating_point() else made

        return filled

    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, fill(getattr(torch, name)))
    for name in ("new_empty", "new_empty_strided"):
        monkeypatch.setattr(torch.Tensor, name, fill(getattr(torch.Tensor, name)))
    assert torch.empty(3).isnan().all()
    assert torch.ones(1).new_empty(3).isnan().all()


@pytest.mark.usefixtures("poisoned")
@partitions
@dtypes
def test_every_output_is_written(backend: str, device: torch.device, dtype: torch.dtype, partition: str) -> None:
    ids = PARTITIONS[partition]
    assert_true(grouped(ids, D).to(device, dtype), ids.to(device), backend)


@pytest.mark.usefixtures("poisoned")
def test_every_output_of_consecutive_groups_is_written(backend: str, device: torch.device) -> None:
    x = grouped(CONSECUTIVE, D).float().to(device)
    assert_true(x, CONSECUTIVE.to(device), backend, groups=consecutive_groups(device))


@pytest.mark.usefixtures("poisoned")
def test_every_distance_is_written(device: torch.device) -> None:
    assert pairwise_mse(grouped(CONSECUTIVE, D).float().to(device)).isfinite().all()


@pytest.fixture
def deterministic_mode() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # also fills new memory with NaN, in torch's own operations too
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic_mode")
def test_works_where_torch_refuses_what_is_not_deterministic(backend: str, device: torch.device) -> None:
    ids = PARTITIONS["ragged-shuffled"]
    assert_true(grouped(ids, D).float().to(device), ids.to(device), backend)
