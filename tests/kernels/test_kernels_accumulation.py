"""Gradients that meet others: several consumers, shared and kept gradients, hooks, views, repeated backward passes.

Each case is one piece of a network, run with the operator and with Eq. 3 over pairs; both in float64. An operator that
writes into a gradient which is not its own alone, or hands out memory that it uses again, is wrong in one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from kernels_inputs import noise
from kernels_truth import true_loss
from torch import Tensor
from torch.nn.functional import conv2d

from dainv_kernels import invariance_loss, relu_invariance

SHAPE = (12, 4, 3, 2)
IDS = torch.tensor([3, 0, 0, 1, 3, 1, 0, 5, 5, 1, 3, 3])
OTHER_IDS = torch.arange(12) % 4


@dataclass
class Run:
    """The operator, or Eq. 3 in its place, for one run of a case; and what the case has seen of the gradients."""

    loss: Callable[[Tensor, Tensor], Tensor]
    layer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # activation and loss of the activation
    weight: Tensor
    seen: list[Tensor] = field(default_factory=list)
    retained: list[Tensor] = field(default_factory=list)

    def next_layer(self, y: Tensor) -> Tensor:
        return conv2d(y, self.weight)


def watched(run: Run, y: Tensor) -> Tensor:
    """Its gradient is kept, both by torch and by a hook."""
    y.retain_grad()
    run.retained.append(y)
    y.register_hook(run.seen.append)
    return y


def next_layer_then_loss(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    return run.next_layer(y).square().sum() + loss


def loss_then_next_layer(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    return -40 * loss + run.next_layer(y).square().sum()


def loss_of_what_the_next_layer_has_read(run: Run, z: Tensor) -> Tensor:
    y = z.tanh()
    after = run.next_layer(y).square().sum()
    return after + 40 * run.loss(y, IDS)


def next_layer_alone(run: Run, z: Tensor) -> Tensor:
    y, _ = run.layer(z, IDS)
    return run.next_layer(y).square().sum()


def loss_alone(run: Run, z: Tensor) -> Tensor:
    return run.layer(z, IDS)[1] * -40


def gradient_without_memory_of_its_own(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    return y.sum() + 40 * loss  # sum's gradient is one number, expanded


def one_gradient_for_two_layers(run: Run, z: Tensor) -> Tensor:
    one, of_one = run.layer(z, IDS)
    other, of_other = run.layer(0.5 - 2 * z, OTHER_IDS)
    return (one + other).square().sum() + 40 * of_one - 70 * of_other  # the sum hands both the same tensor


def residual_connection(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    return (z + y).square().sum() + 40 * loss  # the sum hands z the same tensor as y


def residual_connection_that_is_watched(run: Run, z: Tensor) -> Tensor:
    z = watched(run, 1 * z)
    y, loss = run.layer(z, IDS)
    both = watched(run, z + watched(run, y))
    return both.square().sum() + 40 * loss


def two_losses_of_one_tensor(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    return 40 * loss + y.square().sum() - 70 * run.loss(y, OTHER_IDS)


def one_loss_twice(run: Run, z: Tensor) -> Tensor:
    _, loss = run.layer(z, IDS)
    return 40 * loss + loss.square()


def one_tensor_through_the_operator_twice(run: Run, z: Tensor) -> Tensor:
    first, of_first = run.layer(z, IDS)
    second, of_second = run.layer(z, IDS)
    return (first * second).sum() + 40 * of_first - 70 * of_second


def one_tensor_twice_in_a_batch(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(torch.cat([z, z.flip(0)]), torch.cat([IDS, OTHER_IDS]))
    return y.square().sum() + 40 * loss


def activation_times_its_own_loss(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    return (y * loss).square().sum()


def three_layers(run: Run, z: Tensor) -> Tensor:
    first, of_first = run.layer(z, IDS)
    second, of_second = run.layer(run.next_layer(first), IDS)
    third, of_third = run.layer(second - second.mean(), IDS)
    return third.square().sum() + 40 * (of_first + 2 * of_second - 3 * of_third)


def views_of_the_features(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    as_rows, some, other = y.flatten(1), y[:, 1:3], y.permute(0, 3, 1, 2)
    return run.loss(as_rows, IDS) + 2 * run.loss(some, IDS) + 3 * run.loss(other, OTHER_IDS) + y.sum() - 5 * loss


def parts_of_the_batch(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    first, second = y[:5], y[5:]
    return run.loss(first, IDS[:5]) + 2 * run.loss(second, IDS[5:]) + y.square().sum() + 3 * loss


def parts_of_the_channels(run: Run, z: Tensor) -> Tensor:
    one, other = run.layer(z, IDS)[0].chunk(2, dim=1)
    return (one * other).sum() + 40 * run.loss(one, IDS) - 70 * run.loss(other, IDS)


def expanded_features(run: Run, z: Tensor) -> Tensor:
    y = z[:, :1].tanh()
    return run.loss(y.expand(SHAPE), IDS) + 2 * run.loss(y, OTHER_IDS) + y.sum()


def stopped_gradient(run: Run, z: Tensor) -> Tensor:
    y, _ = run.layer(z.detach(), IDS)
    return (y * z).sum() + 40 * run.loss(z.detach(), IDS)


def watched_activation(run: Run, z: Tensor) -> Tensor:
    y, loss = run.layer(z, IDS)
    return run.next_layer(watched(run, y)).square().sum() + 40 * loss


def hooks_that_change_gradients(run: Run, z: Tensor) -> Tensor:
    z = 1 * z
    z.register_hook(lambda gradient: gradient.sin())
    y, loss = run.layer(z, IDS)
    y.register_hook(lambda gradient: 2 * gradient - 0.5)
    loss.register_hook(lambda gradient: -3 * gradient)
    return run.next_layer(y).square().sum() + 40 * loss


def hook_of_a_module(run: Run, z: Tensor) -> Tensor:
    class Layer(torch.nn.Module):
        def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
            return run.layer(z, IDS)

    def keep_and_double(module: torch.nn.Module, inner: tuple[Tensor], outer: tuple[Tensor, ...]) -> tuple[Tensor]:
        run.seen.extend((*inner, *outer))
        return (2 * inner[0],)

    layer = Layer()
    layer.register_full_backward_hook(keep_and_double)
    y, loss = layer(1 * z)
    return run.next_layer(y).square().sum() + 40 * loss


CASES = [
    next_layer_then_loss,
    loss_then_next_layer,
    loss_of_what_the_next_layer_has_read,
    next_layer_alone,
    loss_alone,
    gradient_without_memory_of_its_own,
    one_gradient_for_two_layers,
    residual_connection,
    residual_connection_that_is_watched,
    two_losses_of_one_tensor,
    one_loss_twice,
    one_tensor_through_the_operator_twice,
    one_tensor_twice_in_a_batch,
    activation_times_its_own_loss,
    three_layers,
    views_of_the_features,
    parts_of_the_batch,
    parts_of_the_channels,
    expanded_features,
    stopped_gradient,
    watched_activation,
    hooks_that_change_gradients,
    hook_of_a_module,
]

OPERATORS = ["invariance_loss", "relu_invariance"]
operators = pytest.mark.parametrize("operator", OPERATORS)


def by_pairs(operator: str, weight: Tensor) -> Run:
    def layer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        if operator == "invariance_loss":
            y = z.sigmoid()
            return y, true_loss(y, ids)
        y = z.relu()
        return y.clone(), true_loss(y, ids)  # two outputs of one operation: neither's gradient passes the other

    return Run(true_loss, layer, weight)


def by_operator(operator: str, weight: Tensor, backend: str) -> Run:
    def loss_of(y: Tensor, ids: Tensor) -> Tensor:
        return invariance_loss(y, ids.to(y.device), backend=backend)

    def layer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        if operator == "invariance_loss":
            y = z.sigmoid()
            return y, loss_of(y, ids)
        return relu_invariance(z, ids.to(z.device), backend=backend)

    return Run(loss_of, layer, weight)


def leaves(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    z = noise(*SHAPE).to(device).contiguous(memory_format=torch.channels_last)
    return z.requires_grad_(), noise(4, 4, 1, 1, seed=1).to(device).requires_grad_()


def gradients(run: Run, z: Tensor) -> list[Tensor]:
    return [z.grad, run.weight.grad, *(y.grad for y in run.retained), *run.seen]


def assert_same(got: list[Tensor | None], expected: list[Tensor | None]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one.cpu(), other, rtol=1e-10, atol=1e-11)


@operators
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.replace("_", " "))
def test_gradients_of(
    closed_form_backend: str,
    device: torch.device,
    case: Callable[[Run, Tensor], Tensor],
    operator: str,
) -> None:
    z, weight = leaves(device)
    run = by_operator(operator, weight, closed_form_backend)
    total = case(run, z)
    total.backward()
    true_z, true_weight = leaves()
    true_run = by_pairs(operator, true_weight)
    true_total = case(true_run, true_z)
    true_total.backward()
    torch.testing.assert_close(total.detach().cpu(), true_total.detach(), rtol=1e-11, atol=0)
    assert_same(gradients(run, z), gradients(true_run, true_z))


@dataclass
class Differentiated:
    """A leaf that the operator reads itself, a total of its loss, and the true gradient of that."""

    z: Tensor
    total: Tensor
    expected: Tensor


@pytest.fixture(params=["loss alone", "loss and next layer"])
def leaf(
    request: pytest.FixtureRequest, closed_form_backend: str, device: torch.device, operator: str
) -> Differentiated:
    def total(run: Run, z: Tensor) -> Tensor:
        y, loss = (z, run.loss(z, IDS)) if operator == "invariance_loss" else run.layer(z, IDS)
        return 40 * loss if request.param == "loss alone" else run.next_layer(y).square().sum() + 40 * loss

    z, weight = leaves(device)
    true_z, true_weight = leaves()
    (expected,) = torch.autograd.grad(total(by_pairs(operator, true_weight), true_z), true_z)
    return Differentiated(z, total(by_operator(operator, weight, closed_form_backend), z), expected)


@operators
def test_gradient_is_added_to_one_that_is_there(leaf: Differentiated) -> None:
    z, total, expected = leaf.z, leaf.total, leaf.expected
    there = torch.full_like(z, 0.25)
    z.grad = there
    total.backward()
    assert z.grad is there
    assert_same([z.grad], [expected + 0.25])


@operators
def test_two_backward_passes_through_a_kept_graph_add_up(leaf: Differentiated) -> None:
    z, total, expected = leaf.z, leaf.total, leaf.expected
    torch.autograd.backward(total, retain_graph=True)
    once = z.grad
    z.grad = None
    torch.autograd.backward(total, retain_graph=True)
    assert_same([once, z.grad], [expected, expected])  # the first one is still what it was
    torch.autograd.backward(total)
    assert_same([z.grad], [2 * expected])


@operators
def test_a_gradient_that_was_handed_out_is_the_callers(leaf: Differentiated) -> None:
    z, total, expected = leaf.z, leaf.total, leaf.expected
    (first,) = torch.autograd.grad(total, z, retain_graph=True)
    first.fill_(torch.nan)
    (second,) = torch.autograd.grad(total, z)
    assert_same([second], [expected])
    assert first.isnan().all()


@operators
def test_a_second_backward_pass_is_refused_where_the_graph_was_not_kept(leaf: Differentiated) -> None:
    leaf.total.backward()
    with pytest.raises(RuntimeError, match="second time"):
        leaf.total.backward()


def test_upstream_gradients_are_left_as_they_were(backend: str, device: torch.device) -> None:
    z, _ = leaves(device)
    y, loss = relu_invariance(z, IDS.to(device), backend=backend)
    upstream = [
        noise(*SHAPE, seed=2).to(device).contiguous(memory_format=torch.channels_last),
        torch.full_like(loss, 7),
    ]
    before = [gradient.clone() for gradient in upstream]
    torch.autograd.grad((y, loss), z, upstream)
    assert all(map(torch.equal, upstream, before))


def test_features_changed_in_place_before_the_backward_pass_are_noticed(backend: str, device: torch.device) -> None:
    features = 1 * leaves(device)[0]
    loss = invariance_loss(features, IDS.to(device), backend=backend)
    features.mul_(2)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("changed", ["x", "activation"])
def test_a_change_in_place_around_relu_is_noticed_or_harmless(backend: str, device: torch.device, changed: str) -> None:
    def gradient(change: bool) -> Tensor:
        z, _ = leaves(device)
        x = 1 * z
        y, loss = relu_invariance(x, IDS.to(device), backend=backend)
        total = y.square().sum().detach() + 40 * loss
        if change:
            (x if changed == "x" else y).mul_(-2)
        return torch.autograd.grad(total, z)[0]

    expected = gradient(change=False)
    try:
        got = gradient(change=True)
    except RuntimeError as refusal:
        if "modified by an inplace operation" not in str(refusal):
            raise
    else:
        assert torch.equal(got, expected)
