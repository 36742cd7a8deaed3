"""The operator under the rest of autograd: torch.func, derivatives of derivatives, checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from kernels_inputs import grouped, noise
from kernels_truth import true_loss
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import conv2d
from torch.utils.checkpoint import checkpoint

from dainv_kernels import invariance_loss, relu_invariance

IDS = torch.tensor([2, 0, 0, 2, 1, 0, 1, 1])
OPERATORS = ["invariance_loss", "relu_invariance"]
operators = pytest.mark.parametrize("operator", OPERATORS)

Scalar = Callable[[Tensor], Tensor]


def images(device: torch.device | str = "cpu") -> Tensor:
    return grouped(IDS, 3, 2, 2).to(device).contiguous(memory_format=torch.channels_last)


def of_operator(operator: str, backend: str, ids: Tensor) -> Scalar:
    """One number from x that both outputs have a part in; not linear in the loss."""
    if operator == "invariance_loss":
        return lambda x: 30 * invariance_loss(x, ids, backend=backend).square() + x.square().mean()

    def of_both(x: Tensor) -> Tensor:
        y, loss = relu_invariance(x, ids, backend=backend)
        return 30 * loss.square() + (y * y.detach().cos() + y.pow(3)).mean()

    return of_both


def of_pairs(operator: str) -> Scalar:
    if operator == "invariance_loss":
        return lambda x: 30 * true_loss(x, IDS).square() + x.square().mean()

    def of_both(x: Tensor) -> Tensor:
        y = x.relu()
        return 30 * true_loss(y, IDS).square() + (y * y.detach().cos() + y.pow(3)).mean()

    return of_both


def plain_gradient(function: Scalar, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


same = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


@pytest.fixture
def functions(backend: str, device: torch.device, operator: str) -> tuple[Scalar, Scalar]:
    """The function by the operator and by pairs."""
    return of_operator(operator, backend, IDS.to(device)), of_pairs(operator)


# torch.func


@operators
def test_func_grad(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    by_operator, by_pairs = functions
    same(torch.func.grad(by_operator)(images(device)).cpu(), plain_gradient(by_pairs, images()))


@operators
def test_func_grad_and_value(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    by_operator, by_pairs = functions
    gradient, value = torch.func.grad_and_value(by_operator)(images(device))
    same(value.cpu(), by_pairs(images()))
    same(gradient.cpu(), plain_gradient(by_pairs, images()))


@operators
def test_func_vjp(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    by_operator, by_pairs = functions
    value, pull_back = torch.func.vjp(by_operator, images(device))
    (gradient,) = pull_back(torch.full_like(value, -2.5))
    same(gradient.cpu(), -2.5 * plain_gradient(by_pairs, images()))


@operators
def test_func_grad_of_func_grad(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    by_operator, by_pairs = functions
    direction = noise(*images().shape, seed=3)

    def along(function: Scalar, x: Tensor) -> Tensor:
        return (torch.func.grad(function)(x) * direction.to(x)).sum()

    got = torch.func.grad(partial(along, by_operator))(images(device))
    same(got.cpu(), torch.autograd.functional.hvp(by_pairs, images(), direction)[1])


@pytest.mark.parametrize("fused", [False, True], ids=["loss", "relu and loss"])
def test_func_grad_of_a_network_with_a_loss_a_layer(backend: str, device: torch.device, fused: bool) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 3, 2)]).double()

        def forward(self, x: Tensor, loss_of: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
            losses = []
            for layer in self.layers:
                x, loss = loss_of(layer(x))
                losses.append(loss)
            return x.square().mean() + 3 * losses[0] - 5 * losses[1]

    def by_operator(z: Tensor) -> tuple[Tensor, Tensor]:
        if fused:
            return relu_invariance(z, IDS.to(device), backend=backend)
        return z.relu(), invariance_loss(z.relu(), IDS.to(device), backend=backend)

    network = Network()
    network(images(), lambda z: (z.relu(), true_loss(z.relu(), IDS))).backward()
    expected = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.to(device)
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    got = torch.func.grad(lambda p: functional_call(network, p, (images(device), by_operator)))(parameters)
    for name in expected:
        same(got[name].cpu(), expected[name].cpu())


# What is not promised has to be refused in words, or to be right: never a wrong number.


def right_or_refused(attempt: Callable[[], Tensor], expected: Tensor, words: str) -> None:
    try:
        got = attempt()
    except (RuntimeError, NotImplementedError) as refusal:
        assert any(word in str(refusal) for word in words.split("|")), refusal  # noqa: PT017
    else:
        same(got.cpu(), expected)


@operators
def test_vmap_is_refused(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    by_operator, _ = functions
    batches = torch.stack([images(), 2 * images().flip(0)]).to(device)
    for function in (by_operator, torch.func.grad(by_operator)):
        with pytest.raises(NotImplementedError, match=r"one batch, not several by torch\.func\.vmap"):
            torch.func.vmap(function)(batches)


@operators
def test_forward_mode_is_right_or_refused(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    by_operator, by_pairs = functions
    direction = noise(*images().shape, seed=3)
    expected = (plain_gradient(by_pairs, images()) * direction).sum()

    def slope() -> Tensor:
        return torch.func.jvp(by_operator, (images(device),), (direction.to(device),))[1]

    right_or_refused(slope, expected, "forward|jvp")


# Derivatives of derivatives


@operators
def test_gradient_penalty(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    def penalized(function: Scalar, x: Tensor, weight: Tensor) -> list[Tensor]:
        z = conv2d(x, weight)
        value = function(z)
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        (value + 10 * gradient.square().sum() + 3 * gradient.norm(dim=1).mean()).backward()
        return [x.grad, weight.grad]

    def leaves(device: torch.device | str) -> tuple[Tensor, Tensor]:
        return images(device).requires_grad_(), noise(3, 3, 1, 1, seed=4).to(device).requires_grad_()

    by_operator, by_pairs = functions
    for got, expected in zip(penalized(by_operator, *leaves(device)), penalized(by_pairs, *leaves("cpu")), strict=True):
        same(got.cpu(), expected)


@operators
def test_gradient_penalty_in_float32(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    def penalty(function: Scalar, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    by_operator, by_pairs = functions
    x = images().float()
    expected = penalty(by_pairs, x.double())
    got = penalty(by_operator, x.to(device))
    assert got.dtype == torch.float32
    assert (got.cpu().double() - expected).norm() <= 2e-5 * expected.norm()


@operators
def test_gradient_made_for_a_second_one_is_the_same(device: torch.device, functions: tuple[Scalar, Scalar]) -> None:
    by_operator, by_pairs = functions
    x = images(device).requires_grad_()
    (gradient,) = torch.autograd.grad(by_operator(x), x, create_graph=True)
    assert gradient.requires_grad
    same(gradient.detach().cpu(), plain_gradient(by_pairs, images()))


def test_gradgradcheck_of_relu_and_loss(backend: str, device: torch.device) -> None:
    ids = IDS[:5]
    x = grouped(ids, 2).to(device)
    assert x.abs().min() > 1e-3  # finite differences must not cross the kink
    relu = partial(relu_invariance, groups=ids.to(device), backend=backend)
    assert torch.autograd.gradgradcheck(relu, x.requires_grad_(), fast_mode=backend == "triton")


# Checkpointing


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
@pytest.mark.parametrize("loss_inside", [False, True], ids=["loss outside", "loss inside"])
@operators
def test_checkpointing_changes_no_bit(
    backend: str, device: torch.device, operator: str, loss_inside: bool, reentrant: bool
) -> None:
    ids = IDS.to(device)

    def activation_and_loss(z: Tensor) -> tuple[Tensor, Tensor]:
        if operator == "relu_invariance":
            return relu_invariance(z, ids, backend=backend)
        return z.relu(), invariance_loss(z.relu(), ids, backend=backend)

    def gradients(checkpointed: bool) -> list[Tensor]:
        x, weight = images(device).requires_grad_(), noise(3, 3, 1, 1, seed=4).to(device).requires_grad_()

        def block(x: Tensor) -> tuple[Tensor, ...]:
            z = conv2d(x, weight)
            return activation_and_loss(z) if loss_inside else (z,)

        kept = checkpoint(block, x, use_reentrant=reentrant) if checkpointed else block(x)
        y, loss = kept if loss_inside else activation_and_loss(*kept)
        (y.square().sum() + 40 * loss).backward()
        return [x.grad, weight.grad]

    for got, expected in zip(gradients(checkpointed=True), gradients(checkpointed=False), strict=True):
        assert torch.equal(got, expected)
