"""How many digits are left: of large means, and against plain torch in the same dtype, layer by layer as they come."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels_checks import evaluate, relative_error
from kernels_inputs import grouped, noise, shuffled
from kernels_plain import Plain, assert_at_most_twice_plain, plain_loss, power_of_two_near, truncates
from kernels_truth import truth
from torch import Tensor

from dainv_kernels import Groups, relu_invariance

K, M, D = 8, 8, 160
IDS = torch.arange(K).repeat_interleave(M)
OFFSET = 1e4
# Of float32, whose numbers near 1e4 are 1e-3 apart: data must be compared as rounded, and only after its mean is gone.
# A mean that is rounded to that grid costs 3 digits of the gradient, a folded backward pass as many, and a difference
# of squares all.
FIVE_DIGITS = 1e-5

groupings = pytest.mark.parametrize("grouping", ["consecutive", "shuffled"])

MEANS: dict[str, Callable[[], Tensor | float]] = {
    "the same everywhere": lambda: OFFSET,
    "below zero": lambda: -OFFSET,
    "different in each feature": lambda: OFFSET * noise(1, D, seed=5),
    "different in each channel": lambda: OFFSET * noise(1, 10, 1, seed=5).expand(1, 10, D // 10).flatten(1),
}


def placed(grouping: str, device: torch.device) -> tuple[Tensor, Tensor | Groups]:
    if grouping == "consecutive":
        return IDS, Groups.consecutive(K, M, device=device)
    ids = shuffled(IDS)
    return ids, ids.to(device)


@groupings
@pytest.mark.parametrize("mean", MEANS)
def test_a_mean_ten_thousand_times_the_noise_leaves_five_digits(
    backend: str, device: torch.device, mean: str, grouping: str
) -> None:
    ids, groups = placed(grouping, device)
    x = (MEANS[mean]() + noise(K * M, D)).float()
    got = evaluate(x.to(device), groups, backend)
    true = truth(x, ids, upstream=-37.25)
    assert relative_error(got[0], true[0]) <= FIVE_DIGITS
    assert relative_error(got[1], true[1]) <= FIVE_DIGITS


@groupings
def test_five_digits_are_left_of_a_structured_layer_too(backend: str, device: torch.device, grouping: str) -> None:
    ids, groups = placed(grouping, device)
    x = (OFFSET + grouped(ids, 10, 8, 8)).float().contiguous(memory_format=torch.channels_last)
    got, true = evaluate(x.to(device), groups, backend), truth(x, ids, upstream=-37.25)
    assert relative_error(got[0], true[0]) <= FIVE_DIGITS
    assert relative_error(got[1], true[1]) <= FIVE_DIGITS


@groupings
def test_relu_and_loss_keep_five_digits(backend: str, device: torch.device, grouping: str) -> None:
    ids, groups = placed(grouping, device)
    x = (OFFSET + noise(K * M, D)).float()
    z = x.to(device).requires_grad_()
    _, loss = relu_invariance(z, groups, backend=backend)
    (gradient,) = torch.autograd.grad(loss, z)
    true = truth(x, ids)
    assert relative_error(loss, true[0]) <= FIVE_DIGITS
    assert relative_error(gradient, true[1]) <= FIVE_DIGITS


@groupings
def test_what_a_bias_gets_of_a_layer_far_from_zero_is_nothing(
    backend: str, device: torch.device, grouping: str
) -> None:
    # A bias moves all samples alike, which Eq. 3 does not see; what is left is rounding, and 1e-5 of what is summed.
    _, groups = placed(grouping, device)
    x = (OFFSET + noise(K * M, D)).float().to(device)
    _, gradient = evaluate(x, groups, backend)
    of_bias = gradient.double().sum(0)
    assert of_bias.abs().max() <= FIVE_DIGITS * gradient.double().abs().sum(0).max()


def first_of_group(ids: Tensor) -> Tensor:
    earlier = (ids[:, None] == ids).tril(-1).any(1)
    return ~earlier


LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "no structure": lambda ids: noise(K * M, D),
    "structure": lambda ids: grouped(ids, D),
    "nearly invariant": lambda ids: grouped(ids, D, spread=1e-3),
    "after relu": lambda ids: grouped(ids, D).relu(),
    "sparse": lambda ids: (grouped(ids, D) - 2.5).relu(),
    "a few features rule": lambda ids: grouped(ids, D) * torch.logspace(0, -4, D, dtype=torch.float64),
    "heavy tails": lambda ids: grouped(ids, D).sinh().pow(3) / 128,
    # Mean^2 / variance 6.6e4, as the last layer of All-CNN-C at initialisation.
    "at initialisation": lambda ids: 0.05 * (257 * noise(1, D, seed=5).sign() + grouped(ids, D)),
    "mean of 1e3": lambda ids: 1e3 + noise(K * M, D),
    "one sample far away": lambda ids: noise(K * M, D) * (1 + 1e3 * (torch.arange(K * M) == 0))[:, None],
    "one sample of each group far away": lambda ids: noise(K * M, D) * (1 + 1e3 * first_of_group(ids))[:, None],
    "one sample of each group active": lambda ids: noise(K * M, D).abs() * first_of_group(ids)[:, None],
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_at_most_twice_what_plain_torch_loses(
    closed_form_backend: str, device: torch.device, layer: str, dtype: torch.dtype
) -> None:
    ids, groups = placed("shuffled", device)
    x = LAYERS[layer](ids).to(device, dtype)
    size = Plain.of(x.double(), ids, "pairs").size_of_gradient()
    upstream = power_of_two_near(x.numel() ** 0.5 / size)
    peer = x.clone().requires_grad_()
    loss = plain_loss(peer, ids)
    plain = (loss, torch.autograd.grad(loss * upstream, peer)[0])
    got = evaluate(x, groups, closed_form_backend, upstream=upstream)
    true = truth(x, ids, upstream=upstream)
    assert_at_most_twice_plain(got, plain, true, size * upstream, truncates(closed_form_backend, x))
