"""The truth itself, and every backend, on numbers small enough to do by hand."""

from __future__ import annotations

import pytest
import torch
from kernels_inputs import noise, shuffled
from kernels_truth import pair_distances, true_loss

from dainv_kernels import invariance_loss

# One feature, two groups of two. d = (x_i - x_j)^2:
#   same group 4 and 16, between groups 100, 196, 64, 144; all six distinct pairs sum to 524.
X = torch.tensor([[0.0], [2.0], [10.0], [14.0]], dtype=torch.float64)
IDS = torch.tensor([0, 0, 1, 1])
BY_HAND = {
    "pairs": ((4 + 16) / 2) / (524 / 6),
    "printed": (2 * 4 / 4 + 2 * 16 / 4) / (2 * 524 / 16),
}


@pytest.mark.parametrize("normalization", BY_HAND)
def test_truth_agrees_with_numbers_by_hand(normalization: str) -> None:
    assert true_loss(X, IDS, normalization).item() == pytest.approx(BY_HAND[normalization], rel=1e-15)


@pytest.mark.parametrize("normalization", BY_HAND)
def test_backends_agree_with_numbers_by_hand(backend: str, device: torch.device, normalization: str) -> None:
    loss = invariance_loss(X.to(device), IDS.to(device), normalization=normalization, backend=backend)
    assert loss.item() == pytest.approx(BY_HAND[normalization], rel=4e-15)


def test_truth_agrees_with_a_loop_over_pairs() -> None:
    x, ids = noise(9, 5), shuffled(torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2]))
    same, every = [], []
    for i in range(9):
        for j in range(9):
            if i != j:
                d = sum((x[i, k] - x[j, k]).item() ** 2 for k in range(5)) / 5
                every.append(d)
                if ids[i] == ids[j]:
                    same.append(d)
    expected = (sum(same) / len(same)) / (sum(every) / len(every))
    assert true_loss(x, ids).item() == pytest.approx(expected, rel=1e-14)


def test_truth_is_the_same_in_column_chunks() -> None:
    x = noise(4, 2500)
    torch.testing.assert_close(pair_distances(x), (x[:, None] - x[None]).square().mean(-1), rtol=1e-14, atol=0)
