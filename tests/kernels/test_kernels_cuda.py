"""What only a GPU can show: graph capture, no waiting for the host, indices beyond 32 bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from kernels_checks import UPSTREAM, assert_near, evaluate
from kernels_inputs import CONSECUTIVE, PARTITIONS, D, consecutive_groups, grouped
from kernels_truth import truth
from torch import Tensor

from dainv_kernels import Groups, invariance_loss

pytestmark = pytest.mark.gpu


def step(x: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """One loss and its gradient, from ids or for consecutive groups; everything a training step does with them."""
    groups = consecutive_groups(x.device) if ids is None else Groups.from_ids(ids)
    return evaluate(x, groups, "triton")


@pytest.mark.parametrize("partition", ["shuffled", "ragged-shuffled"])
def test_captured_in_a_graph_with_ids_and_replayed_on_other_data(partition: str) -> None:
    first, ids = grouped(PARTITIONS[partition], D).float(), PARTITIONS[partition]
    second, other_ids = grouped(PARTITIONS[partition], D, seed=7).float(), ids.flip(0)
    x, static_ids = first.cuda(), ids.cuda()
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        step(x, static_ids)  # compiles the kernels, which capture must not
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(x, static_ids)
    for features, new_ids in ((first, ids), (second, other_ids)):
        x.copy_(features)
        static_ids.copy_(new_ids)
        graph.replay()
        assert_near(captured, truth(features, new_ids, upstream=UPSTREAM), torch.float32)


@pytest.mark.parametrize("made", ["before", "inside"])
def test_captured_in_a_graph_with_consecutive_groups(made: str) -> None:
    x, groups = grouped(CONSECUTIVE, D).float().cuda(), consecutive_groups("cuda")
    evaluate(x, groups, "triton")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = evaluate(x, groups, "triton") if made == "before" else step(x, None)
    graph.replay()
    assert_near(captured, truth(x, CONSECUTIVE, upstream=UPSTREAM), torch.float32)


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("waiting_is_an_error")
@pytest.mark.parametrize("kind", ["ids", "consecutive"])
def test_the_host_never_waits_for_the_gpu(kind: str) -> None:
    x = grouped(CONSECUTIVE, D).float().cuda()
    ids = PARTITIONS["ragged-shuffled"].cuda() if kind == "ids" else None
    step(x, ids)
    torch.cuda.set_sync_debug_mode("error")
    step(x, ids)


def test_runs_on_the_stream_of_the_caller() -> None:
    x, groups = grouped(CONSECUTIVE, D).float().cuda(), consecutive_groups("cuda")
    expected = truth(x, CONSECUTIVE, upstream=UPSTREAM)
    late = torch.full_like(x, float("nan"))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)  # some milliseconds in which another stream would read NaN
        late.copy_(x)
        got = evaluate(late, groups, "triton")
    stream.synchronize()
    assert_near(got, expected, torch.float32)


@pytest.mark.parametrize("kind", ["consecutive", "ids"])
def test_more_elements_than_32_bits_count(kind: str) -> None:
    if torch.cuda.mem_get_info()[0] < 14 << 30:
        pytest.skip("needs 14 GiB of free GPU memory")
    # The same few features over and over, as in test_kernels_column_tiles: loss of one copy, gradient / copies.
    copies = 2**31 // (len(CONSECUTIVE) * 512) + 1
    few = grouped(CONSECUTIVE, 512).bfloat16()
    x = few.cuda().repeat(1, copies)
    assert x.numel() > 2**31
    groups = consecutive_groups("cuda") if kind == "consecutive" else CONSECUTIVE.cuda()
    loss, gradient = evaluate(x, groups, "triton", upstream=float(copies))
    true_loss, true_gradient = truth(few, CONSECUTIVE)
    for part in (gradient[:, :512], gradient[:, -512:]):
        assert_near((loss, part), (true_loss, true_gradient), torch.bfloat16)


def test_compiled_network_with_the_triton_backend_reuses_no_stale_memory() -> None:
    @torch.compile(fullgraph=True, mode="reduce-overhead")  # inductor's own CUDA graphs
    def loss_of(x: Tensor, ids: Tensor) -> Tensor:
        return invariance_loss(x.relu(), ids, backend="triton")

    ids = PARTITIONS["ragged-shuffled"]
    for seed in range(4):  # the first runs record, the later ones replay
        x = grouped(ids, D, seed=seed).float().cuda().requires_grad_()
        torch.compiler.cudagraph_mark_step_begin()
        loss = loss_of(x, ids.cuda())
        (gradient,) = torch.autograd.grad(loss, x)
        features = x.detach().relu()
        true_loss, true_gradient = truth(features, ids)
        assert_near((loss, gradient), (true_loss, true_gradient * (features > 0).cpu()), torch.float32)
