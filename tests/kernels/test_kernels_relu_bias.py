"""Bias, ReLU and loss as one operation: the same numbers as the three, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernels_checks import DTYPES, loss_bound, relative_error, result_dtype
from kernels_inputs import grouped, noise
from kernels_plain import plain_loss
from kernels_truth import true_loss, truth
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dainv_kernels import Groups, relu_invariance

K, M, C = 6, 4, 5
IDS = {
    "consecutive": torch.arange(K * M) // M,
    "ragged": torch.tensor([5, 0, 0, 3, 3, 3, 3, 9, 9, 0, 1, 1, 1, 1, 1, 1, 2, 7, 7, 8, 8, 8, 8, 8]),
}
PIXELS: dict[str, tuple[int, ...]] = {
    "rows": (),
    "tokens": (7,),
    "images": (4, 3),
    "images, channels last": (4, 3),
    "images of one pixel": (1, 1),
    "part of the images": (4, 3),
    "broadcast channels": (4, 3),
}
UPSTREAM = -37.25

layouts = pytest.mark.parametrize("layout", PIXELS)
groupings = pytest.mark.parametrize("grouping", IDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def inputs(layout: str, dtype: torch.dtype, device: torch.device | str, grouping: str) -> tuple[Tensor, Tensor]:
    """Pre-activations without their bias, and a bias that is not small against them."""
    x = grouped(IDS[grouping], C, *PIXELS[layout]).to(device, dtype)
    if layout == "images, channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "part of the images":
        x = torch.cat([x, torch.full_like(x, torch.nan)], dim=3)[..., : x.shape[3]]
    if layout == "broadcast channels":
        x = x[:, :1].expand_as(x)
    return x, (noise(C, seed=7) - 0.2).to(device, dtype)


def groups_of(grouping: str, device: torch.device) -> Tensor | Groups:
    return Groups.consecutive(K, M, device) if grouping == "consecutive" else IDS[grouping].to(device)


def biased(x: Tensor, bias: Tensor) -> Tensor:
    return x + bias.reshape(-1, *[1] * (x.ndim - 2))


def run(
    x: Tensor, bias: Tensor | None, groups: Tensor | Groups, backend: str, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Activation, loss, and the gradients of <upstream, activation> - 37.25 loss."""
    x = x.detach().requires_grad_()
    bias = None if bias is None else bias.detach().requires_grad_()
    activation, loss = relu_invariance(x, groups, bias=bias, backend=backend)
    wanted = [x] if bias is None else [x, bias]
    of = torch.autograd.grad((activation, loss), wanted, (upstream, torch.full_like(loss, UPSTREAM)))
    return activation.detach(), loss.detach(), of[0], None if bias is None else of[1]


def of_activation(x: Tensor) -> Tensor:
    return noise(*x.shape, seed=3).to(x)


@dtypes
@layouts
def test_activation_is_relu_of_the_biased_input(
    backend: str, device: torch.device, layout: str, dtype: torch.dtype
) -> None:
    x, bias = inputs(layout, dtype, device, "ragged")
    activation, _ = relu_invariance(x, groups_of("ragged", device), bias=bias, backend=backend)
    expected = biased(x, bias).relu()
    assert activation.dtype == dtype
    if backend == "triton" and device.type == "cpu" and dtype == torch.bfloat16:  # the interpreter cuts off
        torch.testing.assert_close(activation, expected, rtol=torch.finfo(dtype).eps, atol=0)
    else:
        assert torch.equal(activation, expected)


@groupings
@layouts
def test_loss_and_gradients_are_those_of_plain_torch(
    backend: str, device: torch.device, layout: str, grouping: str
) -> None:
    assert_as_in_plain_torch(layout, torch.float32, device, grouping, backend)


@dtypes
@groupings
def test_loss_and_gradients_of_any_dtype(
    closed_form_backend: str, device: torch.device, dtype: torch.dtype, grouping: str
) -> None:
    assert_as_in_plain_torch("images, channels last", dtype, device, grouping, closed_form_backend)


def assert_as_in_plain_torch(
    layout: str, dtype: torch.dtype, device: torch.device, grouping: str, backend: str
) -> None:
    ids = IDS[grouping]
    x, bias = inputs(layout, dtype, device, grouping)
    upstream = of_activation(x)
    activation, loss, of_x, of_bias = run(x, bias, groups_of(grouping, device), backend, upstream)
    true, of_loss = truth(activation, ids, upstream=UPSTREAM)
    active = (activation > 0).cpu()
    true_of_x = (of_loss + upstream.cpu().double()) * active
    assert relative_error(loss, true) <= loss_bound(dtype)
    # Elements are rounded to the dtype, some twice; a bias gets a sum of them, which rounding errors do not cancel in.
    eps = torch.finfo(dtype).eps
    assert relative_error(of_x, true_of_x) <= 2 * max(eps, 16 * torch.finfo(result_dtype(dtype)).eps)
    beyond_bias = [dim for dim in range(x.ndim) if dim != 1]
    assert (of_x.dtype, of_bias.dtype) == (dtype, dtype)
    assert of_bias.shape == (C,)
    summed = true_of_x.abs().sum(beyond_bias)
    error = (of_bias.cpu().double() - true_of_x.sum(beyond_bias)).abs()
    assert (error <= 2 * eps * summed + 16 * torch.finfo(result_dtype(dtype)).eps * summed).all()


@pytest.mark.parametrize("layout", ["rows", "images", "images, channels last"])
def test_gradient_of_the_bias_at_most_twice_as_wrong_as_that_of_plain_torch(
    backend: str, device: torch.device, layout: str
) -> None:
    # Of the loss alone: its gradients cancel over the batch where a channel is always active, so that digits of the
    # single ones show.
    x, bias = inputs(layout, torch.float32, device, "ragged")
    bias = bias + 40
    _, _, of_x, of_bias = run(x, bias, groups_of("ragged", device), backend, torch.zeros_like(x))

    def summed(gradient: Tensor) -> Tensor:
        return gradient.cpu().double().transpose(0, 1).flatten(1).sum(1)

    peer = bias.detach().requires_grad_()
    (of_plain,) = torch.autograd.grad(UPSTREAM * plain_loss(biased(x, peer).relu(), IDS["ragged"]), peer)
    _, true = truth(biased(x, bias).relu(), IDS["ragged"], upstream=UPSTREAM)
    floor = 8 * torch.finfo(torch.float32).eps * true.norm()
    bound = 2 * (of_plain.cpu().double() - summed(true)).norm() + floor
    assert (of_bias.cpu().double() - summed(true)).norm() <= bound
    assert (summed(of_x) - summed(true)).norm() <= bound


@groupings
@pytest.mark.parametrize("layout", ["rows", "images", "images, channels last"])
def test_each_input_alone_may_want_a_gradient(
    closed_form_backend: str, device: torch.device, layout: str, grouping: str
) -> None:
    x, bias = inputs(layout, torch.float64, device, grouping)
    groups = groups_of(grouping, device)
    *_, of_x, of_bias = run(x, bias, groups, closed_form_backend, torch.ones_like(x))
    for wanted, constant in ((0, 1), (1, 0)):
        arguments = [x.clone(), bias.clone()]
        arguments[wanted].requires_grad_()
        y, loss = relu_invariance(arguments[0], groups, bias=arguments[1], backend=closed_form_backend)
        (y.sum() + UPSTREAM * loss).backward()
        assert arguments[constant].grad is None
        torch.testing.assert_close(arguments[wanted].grad, (of_x, of_bias)[wanted], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("output", ["activation", "loss"])
def test_each_output_alone_may_be_differentiated(closed_form_backend: str, device: torch.device, output: str) -> None:
    x, bias = inputs("images, channels last", torch.float64, device, "ragged")
    leaf = bias.detach().requires_grad_()
    y, loss = relu_invariance(x, groups_of("ragged", device), bias=leaf, backend=closed_form_backend)
    (got,) = torch.autograd.grad(y.sum() if output == "activation" else loss, leaf)
    true = bias.detach().cpu().requires_grad_()
    activation = biased(x.cpu(), true).relu()
    (expected,) = torch.autograd.grad(
        activation.sum() if output == "activation" else true_loss(activation, IDS["ragged"]), true
    )
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("layout", ["rows", "images", "images, channels last"])
def test_a_bias_of_zero_is_no_bias(closed_form_backend: str, device: torch.device, layout: str) -> None:
    x, _ = inputs(layout, torch.float32, device, "ragged")
    arguments = (groups_of("ragged", device), closed_form_backend, of_activation(x))
    with_zero, without = run(x, x.new_zeros(C), *arguments), run(x, None, *arguments)
    for one, other in zip(with_zero[:3], without[:3], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("layout", ["rows", "images", "images, channels last"])
def test_activation_and_gradient_keep_the_layout(closed_form_backend: str, device: torch.device, layout: str) -> None:
    x, bias = inputs(layout, torch.float32, device, "consecutive")
    activation, _, gradient, _ = run(x, bias, groups_of("consecutive", device), closed_form_backend, of_activation(x))
    assert activation.stride() == x.stride()
    assert gradient.stride() == x.stride()


def test_a_bias_may_lie_anywhere(backend: str, device: torch.device) -> None:
    x, bias = inputs("images, channels last", torch.float32, device, "ragged")
    spread = torch.full((C, 3), torch.nan, device=device)
    spread[:, 1] = bias
    one = torch.full((1,), 0.3, device=device)
    arguments = (groups_of("ragged", device), backend, of_activation(x))
    for strided, dense in ((spread[:, 1], bias), (one.expand(C), one.repeat(C)), (bias.flip(0).flip(0), bias)):
        for got, expected in zip(run(x, strided, *arguments), run(x, dense, *arguments), strict=True):
            assert torch.equal(got, expected)


def test_two_runs_give_the_same_bits(backend: str, device: torch.device) -> None:
    x, bias = inputs("images, channels last", torch.bfloat16, device, "ragged")
    runs = [run(x, bias, groups_of("ragged", device), backend, of_activation(x)) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


def test_inputs_are_left_as_they_were(backend: str, device: torch.device) -> None:
    x, bias = inputs("images, channels last", torch.float32, device, "ragged")
    upstream = of_activation(x)
    before = [tensor.clone() for tensor in (x, bias, upstream)]
    run(x, bias, groups_of("ragged", device), backend, upstream)
    assert all(map(torch.equal, (x, bias, upstream), before))


def test_a_bias_that_silences_all_channels_gets_nothing(backend: str, device: torch.device) -> None:
    x, bias = inputs("images", torch.float32, device, "ragged")
    for result in run(x, bias - 1e3, groups_of("ragged", device), backend, of_activation(x)):
        assert not result.any()


def test_nan_in_the_bias_comes_out(backend: str, device: torch.device) -> None:
    x, bias = inputs("images, channels last", torch.float32, device, "ragged")
    bias[2] = torch.nan
    activation, loss = relu_invariance(x, groups_of("ragged", device), bias=bias, backend=backend)
    assert loss.isnan()
    assert torch.equal(activation.isnan().amax(dim=(0, 2, 3)).cpu(), torch.arange(C) == 2)


@pytest.mark.parametrize("layout", ["rows", "images, channels last"])
def test_gradcheck(backend: str, device: torch.device, layout: str) -> None:
    x, bias = inputs(layout, torch.float64, device, "ragged")
    assert biased(x, bias).abs().min() > 1e-5  # finite differences must not cross the kink

    def function(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return relu_invariance(x, groups_of("ragged", device), bias=bias, backend=backend)

    assert torch.autograd.gradcheck(function, (x.requires_grad_(), bias.requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_float32_bias_of_a_half_precision_layer(backend: str, device: torch.device, half: torch.dtype) -> None:
    # As autocast leaves it: the convolution's result is in half precision, its bias a parameter in float32. Either that
    # is a sum rounded once or of the rounded bias, or it is refused by name; the activation has the dtype of x.
    x, _ = inputs("images, channels last", half, device, "ragged")
    _, bias = inputs("images, channels last", torch.float32, device, "ragged")
    try:
        activation, loss, of_x, of_bias = run(x, bias, groups_of("ragged", device), backend, of_activation(x))
    except (TypeError, ValueError) as refusal:
        if "bias" not in str(refusal):
            raise
        return
    eps = torch.finfo(half).eps
    torch.testing.assert_close(
        activation.float(), biased(x.float(), bias).relu(), rtol=eps, atol=eps * bias.abs().max().item()
    )
    assert (activation.dtype, of_x.dtype, of_bias.dtype) == (half, half, torch.float32)
    assert relative_error(loss, truth(activation, IDS["ragged"])[0]) <= loss_bound(half)


MISTAKES: dict[str, tuple[Callable[[Tensor], Any], type[Exception]]] = {
    "too short": (lambda bias: bias[:-1], ValueError),
    "of one value": (lambda bias: bias[:1], ValueError),
    "a number": (lambda bias: bias[0], ValueError),
    "two-dimensional": (lambda bias: bias[None], ValueError),
    "integer": (lambda bias: bias.long(), TypeError),
    "a list": (lambda bias: bias.tolist(), TypeError),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_bias_is_named(backend: str, device: torch.device, mistake: str) -> None:
    x, bias = inputs("images", torch.float32, device, "ragged")
    spoil, error = MISTAKES[mistake]
    with pytest.raises(error, match=r"bias.*expected"):
        relu_invariance(x, groups_of("ragged", device), bias=spoil(bias), backend=backend)


class Recorded(TorchDispatchMode):
    """Every call of an operator of ours, with its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace not in ("aten", "prim", "prims"):
            self.calls.append((function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", ["rows", "images, channels last"])
def test_operators_behind_it_are_registered_soundly(
    closed_form_backend: str, device: torch.device, layout: str
) -> None:
    x, bias = inputs(layout, torch.float32, device, "ragged")
    with Recorded() as recorded:
        run(x, bias, groups_of("ragged", device), closed_form_backend, of_activation(x))
    assert recorded.calls
    for function, args, kwargs in recorded.calls:
        fresh = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
        torch.library.opcheck(function, fresh, kwargs, test_utils=("test_schema", "test_faketensor"))


def test_compiled_without_a_graph_break(closed_form_backend: str, device: torch.device) -> None:
    x, bias = inputs("images, channels last", torch.float32, device, "ragged")
    groups, upstream = Groups.from_ids(IDS["ragged"].to(device)), of_activation(x)

    def function(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return relu_invariance(x, groups, bias=bias, backend=closed_form_backend)

    def gradients(function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
        leaves = [x.clone().requires_grad_(), bias.clone().requires_grad_()]
        y, loss = function(*leaves)
        return [y.detach(), loss.detach(), *torch.autograd.grad((y * upstream).sum() - 37.25 * loss, leaves)]

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")  # tracing is ours, code generation is not
    for got, expected in zip(gradients(compiled), gradients(function), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
    torch._dynamo.reset()
