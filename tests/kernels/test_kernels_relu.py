"""ReLU and loss as one operation: the same numbers as the two, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels_checks import DTYPES, gradient_bound, loss_bound, relative_error
from kernels_truth import truth
from torch import Tensor

from dainv_kernels import Groups, invariance_loss, relu_invariance
from dainv_kernels.registration import relu_invariance as operator

IDS = {
    "consecutive": torch.arange(24) // 4,
    "shuffled": torch.randperm(24, generator=torch.Generator().manual_seed(0)) % 6,
    "ragged": torch.tensor([5, 0, 0, 3, 3, 3, 3, 9, 9, 0, 1, 1, 1, 1, 1, 1, 2, 7, 7, 8, 8, 8, 8, 8]),
}


def pre_activations(device: torch.device, dtype: torch.dtype, layout: str = "channels_last") -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(24, 6, 5, 3, generator=generator, dtype=torch.float64) + torch.randn(6, 5, 3, generator=generator)
    x = x.to(device, dtype)
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    return x if layout == "contiguous" else x.flatten(1)


def both_gradients(x: Tensor, groups: Tensor | Groups, upstream: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Activation, loss, and the gradient of <upstream, activation> - 37.25 loss."""
    x = x.detach().requires_grad_()
    activation, loss = relu_invariance(x, groups, backend=backend)
    (gradient,) = torch.autograd.grad((activation, loss), x, (upstream, torch.full_like(loss, -37.25)))
    return activation.detach(), loss.detach(), gradient


@pytest.mark.parametrize("grouping", IDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_are_those_of_relu_then_loss(
    device: torch.device, backend: str, dtype: torch.dtype, grouping: str
) -> None:
    x, ids = pre_activations(device, dtype), IDS[grouping].to(device)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x)
    activation, loss, gradient = both_gradients(x, ids, upstream, backend)
    assert torch.equal(activation, x.relu())
    true_loss, of_activation = truth(x.relu(), ids, "pairs", -37.25)
    active = (x > 0).cpu().double().reshape(of_activation.shape)
    true_gradient = (of_activation + upstream.double().cpu().reshape(of_activation.shape)) * active
    assert relative_error(loss, true_loss) <= loss_bound(dtype)
    assert relative_error(gradient, true_gradient) <= gradient_bound(dtype)


@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "rows"])
def test_activation_and_gradient_keep_the_layout(device: torch.device, closed_form_backend: str, layout: str) -> None:
    x = pre_activations(device, torch.float32, layout)
    activation, _, gradient = both_gradients(x, IDS["consecutive"].to(device), torch.ones_like(x), closed_form_backend)
    assert activation.stride() == x.stride()
    assert gradient.stride() == x.stride()


def test_consecutive_groups_need_no_table(device: torch.device, closed_form_backend: str) -> None:
    x = pre_activations(device, torch.float32)
    by_table = both_gradients(x, IDS["consecutive"].to(device), torch.ones_like(x), closed_form_backend)
    direct = both_gradients(x, Groups.consecutive(6, 4, device), torch.ones_like(x), closed_form_backend)
    for one, other in zip(by_table, direct, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=1e-7)


def test_each_output_alone_may_be_differentiated(device: torch.device, closed_form_backend: str) -> None:
    x = pre_activations(device, torch.float32).requires_grad_()
    ids = IDS["ragged"].to(device)
    activation, loss = relu_invariance(x, ids, backend=closed_form_backend)
    (of_activation,) = torch.autograd.grad(activation.sum(), x, retain_graph=True)
    (of_loss,) = torch.autograd.grad(loss, x)
    (expected,) = torch.autograd.grad(invariance_loss(x.relu(), ids, backend=closed_form_backend), x)
    assert torch.equal(of_activation, (x > 0).float())
    torch.testing.assert_close(of_loss, expected, rtol=1e-5, atol=1e-9)


UPSTREAM: dict[str, Callable[[Tensor], Tensor]] = {
    "rows apart": lambda dense: torch.stack([dense, torch.full_like(dense, torch.nan)], 1)[:, 0],
    "the same row for all samples": lambda dense: dense[:1].expand_as(dense),
    "channels last": lambda dense: dense.contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("kind", UPSTREAM)
def test_the_gradient_of_the_activation_may_lie_anywhere(
    device: torch.device, closed_form_backend: str, kind: str
) -> None:
    x, ids = pre_activations(device, torch.float32, "contiguous"), IDS["ragged"].to(device)
    upstream = UPSTREAM[kind](torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(device))
    dense = upstream.clone(memory_format=torch.contiguous_format)
    gradient, expected = (both_gradients(x, ids, one, closed_form_backend)[2] for one in (upstream, dense))
    assert torch.equal(gradient, expected)


def test_a_dead_layer_passes_nothing_on(device: torch.device, closed_form_backend: str) -> None:
    x = -pre_activations(device, torch.float32).abs()
    activation, loss, gradient = both_gradients(x, IDS["ragged"].to(device), torch.ones_like(x), closed_form_backend)
    assert loss == 0
    assert not activation.any()
    assert not gradient.any()


def test_nan_comes_out(device: torch.device, closed_form_backend: str) -> None:
    x = pre_activations(device, torch.float32)
    x[3, 2, 1, 0] = torch.nan
    activation, loss = relu_invariance(x, IDS["consecutive"].to(device), backend=closed_form_backend)
    assert loss.isnan()
    assert activation.isnan().sum() == 1


def test_operator_is_registered_soundly(closed_form_backend: str) -> None:
    *segments, views = Groups.from_ids(IDS["ragged"]).segments("pairs")
    x = pre_activations(torch.device("cpu"), torch.float32).requires_grad_()
    bias = torch.randn(x.shape[1], generator=torch.Generator().manual_seed(3)).requires_grad_()
    torch.library.opcheck(operator, (x, bias, segments, views, closed_form_backend))


def test_gradcheck() -> None:
    x = pre_activations(torch.device("cpu"), torch.float64)[:, :2].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: relu_invariance(t, IDS["ragged"], backend="torch"), x)


def test_in_place_gives_the_same_and_takes_no_memory(device: torch.device, closed_form_backend: str) -> None:
    x, upstream = pre_activations(device, torch.float32), torch.ones(24, 6, 5, 3, device=device)
    upstream = upstream.contiguous(memory_format=torch.channels_last)
    expected = both_gradients(x, IDS["shuffled"].to(device), upstream.clone(), closed_form_backend)
    leaf = x.clone().requires_grad_()
    z = leaf.clone()  # an operation that does not look back at its output, and passes gradients on
    activation, loss = relu_invariance(z, IDS["shuffled"].to(device), inplace=True, backend=closed_form_backend)
    assert activation.data_ptr() == z.data_ptr()
    (gradient,) = torch.autograd.grad((activation, loss), leaf, (upstream, torch.full_like(loss, -37.25)))
    assert gradient.data_ptr() == upstream.data_ptr()
    for one, other in zip((activation.detach(), loss.detach(), gradient), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("biased", [False, True])
def test_in_place_writes_the_activation_over_the_input(device: torch.device, backend: str, biased: bool) -> None:
    x, ids = pre_activations(device, torch.float32), IDS["shuffled"].to(device)
    bias = torch.linspace(-1, 1, x.shape[1], device=device) if biased else None
    expected, loss = relu_invariance(x, ids, bias=bias, backend=backend)
    activation, in_place = relu_invariance(x, ids, bias=bias, inplace=True, backend=backend)
    assert activation is x
    assert torch.equal(activation, expected)
    assert torch.equal(in_place, loss)


def test_in_place_rows_that_overlap_are_refused_as_torch_does(device: torch.device, backend: str) -> None:
    x, bias = torch.randn(1, 12, device=device).expand(8, 12), torch.ones(12, device=device)
    with pytest.raises(RuntimeError, match="single memory location"):
        relu_invariance(x, torch.arange(8, device=device) // 2, bias=bias, inplace=True, backend=backend)


def test_in_place_leaves_an_upstream_gradient_alone_that_repeats_its_memory(
    device: torch.device, closed_form_backend: str
) -> None:
    x, ids = pre_activations(device, torch.float32), IDS["ragged"].to(device)
    expanded = torch.tensor(2.0, device=device).expand(x.shape)
    expected = both_gradients(x, ids, expanded, closed_form_backend)[2]
    leaf = x.clone().requires_grad_()
    activation, loss = relu_invariance(leaf.clone(), ids, inplace=True, backend=closed_form_backend)
    (gradient,) = torch.autograd.grad((activation, loss), leaf, (expanded, torch.full_like(loss, -37.25)))
    assert torch.equal(gradient, expected)
    assert expanded[0, 0, 0, 0] == 2


def test_the_input_is_left_alone(device: torch.device, closed_form_backend: str) -> None:
    x = pre_activations(device, torch.float32)
    before = x.clone()
    both_gradients(x, IDS["shuffled"].to(device), torch.ones_like(x), closed_form_backend)
    assert torch.equal(x, before)
