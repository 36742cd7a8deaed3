"""What the backward pass needs kept: the features, which the network keeps anyway, and next to nothing more.

"Next to nothing" is 1/M of the features, what their group means take: deviations cannot be among it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels_inputs import noise, shuffled
from kernels_strategies import LAYOUTS
from torch import Tensor

from dainv_kernels import Groups, invariance_loss, relu_invariance

K, M = 16, 8
B = K * M
IDS = torch.arange(K).repeat_interleave(M)

# Samples of these are dense, so that they are viewed and not copied.
VIEWED = ["contiguous", "channels last", "part of a larger batch", "every other sample"]
COPIED = ["batch innermost", "padded", "every other feature", "broadcast channels", "broadcast pixels"]

groupings = pytest.mark.parametrize("grouping", ["consecutive", "shuffled"])


def groups_of(grouping: str, device: torch.device) -> Groups:
    if grouping == "consecutive":
        return Groups.consecutive(K, M, device=device)
    return Groups.from_ids(shuffled(IDS).to(device))


def features(layout: str, device: torch.device) -> Tensor:
    # Half precision: what is kept in float32 is twice as much of it.
    return LAYOUTS[layout](noise(B, 10, 4, 4).to(device, torch.bfloat16)).requires_grad_()


def bytes_kept(forward: Callable[[], tuple[Tensor, ...]], known: list[Tensor]) -> int:
    """Bytes that autograd saves in memory other than that of the known tensors and of the results."""
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        results = forward()
    assert saved, "nothing went through the hooks: this test sees nothing"
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    for tensor in (*known, *results):
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def tables(groups: Groups) -> list[Tensor]:
    """Made once for all layers."""
    return [value for value in vars(groups).values() if isinstance(value, Tensor)]


def size_of(x: Tensor) -> int:
    return x.numel() * x.element_size()


@groupings
@pytest.mark.parametrize("layout", VIEWED)
def test_the_loss_keeps_the_features_and_a_little(
    closed_form_backend: str, device: torch.device, layout: str, grouping: str
) -> None:
    x, groups = features(layout, device), groups_of(grouping, device)
    kept = bytes_kept(lambda: (invariance_loss(x, groups, backend=closed_form_backend),), [x, *tables(groups)])
    assert kept <= size_of(x) / M


@pytest.mark.parametrize("layout", COPIED)
def test_the_loss_keeps_one_copy_at_most_where_samples_are_not_dense(
    closed_form_backend: str, device: torch.device, layout: str
) -> None:
    x, groups = features(layout, device), groups_of("shuffled", device)
    kept = bytes_kept(lambda: (invariance_loss(x, groups, backend=closed_form_backend),), [x, *tables(groups)])
    assert kept <= size_of(x) * (1 + 1 / M)


@groupings
@pytest.mark.parametrize("layout", VIEWED)
def test_relu_and_loss_keep_the_activation_and_a_little(
    closed_form_backend: str, device: torch.device, layout: str, grouping: str
) -> None:
    # x is not known here: a layer before that does not keep it may let it go.
    x, groups = features(layout, device), groups_of(grouping, device)
    kept = bytes_kept(lambda: relu_invariance(x, groups, backend=closed_form_backend), tables(groups))
    assert kept <= size_of(x) / M


@pytest.mark.gpu
@pytest.mark.parametrize("operator", ["invariance_loss", "relu_invariance"])
def test_the_allocator_says_so_too(operator: str) -> None:
    x = noise(B, 4096).float().cuda().requires_grad_()
    groups = groups_of("shuffled", x.device)
    function = invariance_loss if operator == "invariance_loss" else relu_invariance
    function(x, groups, backend="triton")  # compiles
    before = torch.cuda.memory_allocated()
    results = function(x, groups, backend="triton")
    kept = torch.cuda.memory_allocated() - before
    assert kept <= size_of(x) / M + (size_of(x) if isinstance(results, tuple) else 0)
