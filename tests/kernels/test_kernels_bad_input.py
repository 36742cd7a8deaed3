"""What a user's mistake is answered with: the argument's name, what came and what is expected."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from dainv_kernels import Groups, invariance_loss, pairwise_mse

X = torch.zeros(4, 3)
IDS = torch.tensor([0, 0, 1, 1])

# Features, groups, the error, and words that its message has to contain in this order.
MISTAKES: dict[str, tuple[Any, Any, type[Exception], list[str]]] = {
    "fewer ids": (X, IDS[:3], ValueError, ["groups", "expected", "4", "3"]),
    "more ids": (X, torch.zeros(5, dtype=torch.int64), ValueError, ["groups", "expected", "4", "5"]),
    "a Groups of another length": (X, Groups.consecutive(3, 2), ValueError, ["groups", "expected", "4", "6"]),
    "float ids": (X, IDS.float(), TypeError, ["groups", "expected", "integer", "float32"]),
    "complex ids": (X, IDS.to(torch.complex64), TypeError, ["groups", "expected", "integer", "complex64"]),
    "bool ids": (X, IDS.bool(), TypeError, ["groups", "expected", "integer", "bool"]),
    "a list of ids": (X, [0, 0, 1, 1], TypeError, ["groups", "expected", "integer", "list"]),
    "sparse ids": (X, IDS.to_sparse(), TypeError, ["groups", "expected", "dense", "sparse_coo"]),
    "no ids": (X, None, TypeError, ["groups", "expected", "integer", "NoneType"]),
    "ids in a column": (X, IDS[:, None], ValueError, ["groups", "expected", "(B,)", "(4, 1)"]),
    "one id for all": (X, torch.tensor(0), ValueError, ["groups", "expected", "(B,)", "()"]),
    "one sample": (X[:1], IDS[:1], ValueError, ["features", "expected", "2", "(1, 3)"]),
    "no sample": (X[:0], IDS[:0], ValueError, ["features", "expected", "(0, 3)"]),
    "no feature": (X[:, :0], IDS, ValueError, ["features", "expected", "(4, 0)"]),
    "one dimension": (X[:, 0], IDS, ValueError, ["features", "expected", "(B, ...)", "(4,)"]),
    "no dimension": (X[0, 0], IDS, ValueError, ["features", "expected", "(B, ...)", "()"]),
    "integer features": (X.long(), IDS, TypeError, ["features", "expected", "floating-point", "int64"]),
    "complex features": (X.to(torch.complex64), IDS, TypeError, ["features", "expected", "floating", "complex64"]),
    "sparse features": (X.to_sparse(), IDS, TypeError, ["features", "expected", "dense", "sparse_coo"]),
    "features in a list": (X.tolist(), IDS, TypeError, ["features", "expected", "floating-point", "list"]),
}


def in_this_order(words: list[str]) -> str:
    return ".*".join(re.escape(word) for word in words)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_explained(backend: str, device: torch.device, mistake: str) -> None:
    features, groups, error, words = MISTAKES[mistake]
    if isinstance(features, torch.Tensor):
        features = features.to(device)
    if isinstance(groups, torch.Tensor):
        groups = groups.to(device)
    with pytest.raises(error, match=in_this_order(words)):
        invariance_loss(features, groups, backend=backend)


@pytest.mark.gpu
def test_groups_on_another_device_are_named(backend: str, device: torch.device) -> None:
    elsewhere = "cpu" if device.type == "cuda" else "cuda"
    with pytest.raises(ValueError, match=in_this_order(["groups", "expected", device.type, elsewhere])):
        invariance_loss(X.to(device), IDS.to(elsewhere), backend=backend)


@pytest.mark.parametrize(
    "mistake",
    [
        "no feature",
        "no sample",
        "one dimension",
        "no dimension",
        "integer features",
        "sparse features",
        "features in a list",
    ],
)
def test_mistake_is_explained_by_pairwise_mse(mistake: str) -> None:
    features, _, error, words = MISTAKES[mistake]
    with pytest.raises(error, match=in_this_order(words)):
        pairwise_mse(features)
