"""Modes, tracers and subclasses of Tensor hear of the operators; what only torch knows of a tensor is not lost."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from kernels_inputs import grouped
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode

from dainv_kernels import Groups, invariance_loss, relu_invariance

IDS = torch.tensor([2, 0, 0, 2, 1, 0, 1, 1])


def images(device: torch.device, seed: int = 0) -> Tensor:
    return grouped(IDS, 3, 2, 2, seed=seed).float().to(device)


def loss_of(x: Tensor, groups: Groups, backend: str, relu: bool) -> Tensor:
    if not relu:
        return invariance_loss(x, groups, backend=backend)
    y, loss = relu_invariance(x, groups, backend=backend)
    return loss + y.mean()


def names(relu: bool) -> list[str]:
    return ["dainv::relu_invariance" if relu else "dainv::invariance", "dainv::invariance_backward"]


class Listening(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.heard.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("relu", [False, True])
def test_a_mode_hears_of_both_directions(closed_form_backend: str, device: torch.device, relu: bool) -> None:
    groups = Groups.from_ids(IDS.to(device))
    results = []
    listening = Listening()
    for listener in (None, listening):
        x = images(device).requires_grad_()
        if listener is not None:
            listener.__enter__()
        try:
            loss = loss_of(x, groups, closed_form_backend, relu)
            results.append((loss.detach(), *torch.autograd.grad(loss, x)))
        finally:
            if listener is not None:
                listener.__exit__(None, None, None)
    assert all(map(torch.equal, *results))
    assert [name for name in listening.heard if name.startswith("dainv::")] == names(relu)


@pytest.mark.parametrize("relu", [False, True])
def test_a_traced_graph_has_the_operators_in_it(closed_form_backend: str, device: torch.device, relu: bool) -> None:
    groups, x = Groups.from_ids(IDS.to(device)), images(device)

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(loss_of(x, groups, closed_form_backend, relu), x)[0]

    graph = make_fx(gradient)(x)
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert [name.removesuffix(".default").replace(".", "::") for name in called if "dainv" in name] == names(relu)
    other = images(device, seed=1)
    torch.testing.assert_close(graph(other), gradient(other))


def test_a_tensor_that_is_two_is_taken_apart_by_torch(closed_form_backend: str, device: torch.device) -> None:
    groups = Groups.from_ids(IDS.to(device))
    both = images(device), images(device, seed=1)
    found = invariance_loss(TwoTensor(*both), groups, backend=closed_form_backend)
    expected = [invariance_loss(one, groups, backend=closed_form_backend) for one in both]
    assert isinstance(found, TwoTensor)
    assert torch.equal(found.a, expected[0])
    assert torch.equal(found.b, expected[1])
    assert not torch.equal(*expected)


def negated(x: Tensor) -> Tensor:
    """Minus x, in memory still x: what torch makes of the imaginary part of a conjugate, here with dense samples."""
    lazy = torch._neg_view(x)
    assert lazy.is_neg()
    assert torch.equal(lazy, -x)
    return lazy


def test_a_minus_sign_that_is_not_in_memory_counts(closed_form_backend: str, device: torch.device) -> None:
    groups = Groups.from_ids(IDS.to(device))
    results = []
    for make in (torch.neg, negated):
        x = images(device).requires_grad_()
        y, loss = relu_invariance(make(x), groups, backend=closed_form_backend)
        gradient = torch.autograd.grad((y, loss), x, (torch.ones_like(y), torch.ones_like(loss)))
        alone = invariance_loss(make(x), groups, backend=closed_form_backend)
        results.append((y.detach(), loss.detach(), *gradient, alone.detach(), *torch.autograd.grad(alone, x)))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


def test_an_upstream_gradient_may_have_its_sign_noted_only(closed_form_backend: str, device: torch.device) -> None:
    groups = Groups.from_ids(IDS.to(device))
    results = []
    for make in (torch.neg, negated):
        x = images(device).requires_grad_()
        y, loss = relu_invariance(x, groups, backend=closed_form_backend)
        upstream = make(images(device, seed=1))
        results += torch.autograd.grad((y, loss), x, (upstream, torch.ones_like(loss)))
    torch.testing.assert_close(results[1], results[0])


def test_what_torch_asks_in_every_call_is_known(
    closed_form_backend: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, x = Groups.from_ids(IDS.to(device)), images(device).requires_grad_()
    loss_of(x, groups, closed_form_backend, relu=True)
    made: list[Any] = []
    as_before = inspect._signature_from_function  # type: ignore[attr-defined]

    def counting(cls: Any, function: Any, *rest: Any, **options: Any) -> Any:
        made.append(function)
        return as_before(cls, function, *rest, **options)

    monkeypatch.setattr(inspect, "_signature_from_function", counting)
    loss_of(x, groups, closed_form_backend, relu=True)
    loss_of(x, groups, closed_form_backend, relu=False)
    assert not [function for function in made if "dainv_kernels.autograd" in str(function.__module__)]
