"""What the kernels suite times: shapes, layouts, and who is timed on them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from bench_helpers import CPU, SMALL, eq3_by_pairs

from dainv import AllCNNC
from dainv_bench import peers
from dainv_bench.kernels import bandwidth, methods
from dainv_bench.kernels.bandwidth import sets_beyond_cache
from dainv_bench.kernels.cases import DTYPES, LAYOUTS, Case, Workload, layer_shapes, make_sets, workloads
from dainv_kernels import backend_status, invariance_loss
from dainv_kernels.layout import sample_rows


def test_layers_are_those_of_the_network() -> None:
    _, activations = AllCNNC()(torch.zeros(1, 3, 32, 32)), AllCNNC().forward_taps(torch.zeros(1, 3, 32, 32))[1]
    assert layer_shapes() == {name: tuple(x.shape[1:]) for name, x in activations.items()}


def test_every_layer_is_timed_once_and_all_together() -> None:
    found = {workload.name: workload for workload in workloads(torch.float32)}
    shapes = list(layer_shapes().values())
    single = [workload.cases[0].shape for name, workload in found.items() if name.startswith("layer")]
    assert sorted(single) == sorted(set(shapes))
    assert [case.shape for case in found["all-layers"].cases] == shapes
    assert found["all-layers"].nbytes == 4 * 128 * sum(math.prod(shape) for shape in shapes)
    assert {case.layout for workload in found.values() for case in workload.cases} == set(LAYOUTS)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_gigabyte_is_one_in_every_dtype(dtype: torch.dtype) -> None:
    (workload,) = (one for one in workloads(dtype) if one.name == "gigabyte")
    assert workload.nbytes == 1 << 30
    assert {case.dtype for case in workload.cases} == {dtype}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_input_sets_are_equal_and_apart(layout: str) -> None:
    case = replace(SMALL, layout=layout, dtype=torch.bfloat16)
    sets = make_sets(Workload("one", (case,)), 3, 0, CPU)
    (x,), (upstream,) = sets[0]
    assert x.shape == upstream.shape == (12, 4, 5, 5)
    assert x.stride(0) == (200 if layout == "sliced" else 100)
    assert x.is_contiguous(memory_format=torch.channels_last) == (layout in ("channels_last", "shuffled-ids"))
    for (other,), (other_upstream,) in sets[1:]:
        assert torch.equal(other, x)
        assert torch.equal(other_upstream, upstream)
        assert other.stride() == x.stride()
        assert other.requires_grad
    assert len({one.features[0].data_ptr() for one in sets}) == 3


def test_groups_are_those_of_the_ids() -> None:
    for layout in LAYOUTS:
        case = replace(SMALL, layout=layout)
        ids = case.ids("cpu")
        assert ids.bincount().tolist() == [3] * 4
        assert torch.equal(ids, ids.sort().values) == (layout != "shuffled-ids")
        x = make_sets(Workload("one", (case,)), 1, 0, CPU)[0].features[0]
        expected = eq3_by_pairs(sample_rows(x.detach()), ids)
        assert invariance_loss(x, case.groups("cpu")).item() == pytest.approx(expected.item(), rel=1e-5)
        assert 0.05 < expected < 0.95  # neither structure nor noise alone


@pytest.mark.parametrize("peer", [peers.published, peers.cdist, peers.closed_form], ids=lambda peer: peer.__name__)
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_peer_is_eq3_over_explicit_pairs(peer: Any, shuffled: bool, dtype: torch.dtype) -> None:
    ids = torch.arange(5).repeat_interleave(3)
    ids = ids[torch.randperm(15, generator=torch.Generator().manual_seed(0))] if shuffled else ids
    rows = torch.randn(15, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert peer(ids)(rows).item() == pytest.approx(eq3_by_pairs(rows, ids).item(), rel=1e-5)


def test_every_backend_is_a_method_and_a_missing_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(backend_status()) < set(methods.methods())
    monkeypatch.setattr(methods, "backend_status", lambda: {"torch": "works", "abacus": "too few beads"})
    found = methods.methods()
    assert [name for name, method in found.items() if method.ours] == ["torch", "abacus", "relu+torch", "relu+abacus"]
    assert found["abacus"].why_not(workloads(torch.float32)[0], CPU) == "too few beads"
    assert found["torch"].why_not(workloads(torch.float32)[0], CPU) is None


def test_pairs_are_not_waited_for_where_they_are_many() -> None:
    reference = methods.methods()["reference"]
    assert reference.why_not(Workload("few", (SMALL,)), CPU) is None
    assert "differences of pairs" in str(reference.why_not(Workload("many", (Case(128, 8, (96, 32, 32)),)), CPU))


@pytest.mark.parametrize(
    ("name", "forward", "backward"), [("torch", 1, 2), ("relu+torch", 2, 3), ("relu", 2, 3), ("published", 1, 2)]
)
def test_bytes_by_model(name: str, forward: int, backward: int) -> None:
    workload, method = Workload("one", (SMALL, SMALL)).to(torch.bfloat16), methods.methods()[name]
    one_pass = 2 * 12 * 100 * 2
    assert method.nbytes(workload, "forward") == forward * one_pass
    assert method.nbytes(workload, "backward") == backward * one_pass
    assert method.nbytes(workload, "both") == (forward + backward) * one_pass


def test_sets_are_more_than_the_cache_holds_but_not_too_many() -> None:
    cache = bandwidth._CPU_CACHE_BYTES
    for nbytes in (100, cache // 10, cache, 100 * cache):
        number = sets_beyond_cache(nbytes, CPU)
        assert 2 <= number <= 128
        assert number == 128 or number * nbytes >= 2 * cache
