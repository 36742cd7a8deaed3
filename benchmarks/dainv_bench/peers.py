"""Eq. 3 of one layer as others would compute it, from plain torch operations and autograd.

Each takes what depends on the groups alone beforehand, and gives a function of the ``(B, D)`` features. All work in
float32 where the features are narrower: in half precision their sums would be wrong in the first digits.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dainv_kernels.layout import accumulator_dtype

LayerLoss = Callable[[Tensor], Tensor]


def _widened(rows: Tensor) -> Tensor:
    return rows.to(accumulator_dtype(rows.dtype))


def _ratio_of_means(ids: Tensor, distances_of: LayerLoss) -> LayerLoss:
    """The mean over distinct pairs of a group over that over all distinct pairs, each pair once (i < j)."""
    all_pairs = torch.ones(len(ids), len(ids), device=ids.device).triu(1)
    same_group = all_pairs * (ids[:, None] == ids[None, :])
    n_all, n_same = all_pairs.sum(), same_group.sum()

    def loss(rows: Tensor) -> Tensor:
        distances = distances_of(_widened(rows))
        return ((same_group * distances).sum() / n_same) / ((all_pairs * distances).sum() / n_all)

    return loss


def published(ids: Tensor) -> LayerLoss:
    """All B x B distances by |a|^2 - 2 a.b + |b|^2, as the authors trained."""

    def distances(rows: Tensor) -> Tensor:
        squared_norms = rows.square().sum(1)
        return (squared_norms[:, None] - 2 * rows @ rows.T + squared_norms[None, :]) / rows.shape[1]

    return _ratio_of_means(ids, distances)


def cdist(ids: Tensor) -> LayerLoss:
    """All B x B distances by torch.cdist, squared."""
    return _ratio_of_means(ids, lambda rows: torch.cdist(rows, rows).square() / rows.shape[1])


def metric_learning(ids: Tensor) -> LayerLoss:
    """All B x B squared distances as pytorch-metric-learning gives them to its losses."""
    from pytorch_metric_learning.distances import LpDistance

    squared = LpDistance(normalize_embeddings=False, p=2, power=2)
    return _ratio_of_means(ids, lambda rows: squared(rows) / rows.shape[1])


def closed_form(ids: Tensor) -> LayerLoss:
    """Sums of squares around the means of equal groups and of the batch."""
    order = torch.argsort(ids, stable=True)
    sorted_already = torch.equal(ids[order], ids)
    batch, n_groups = len(ids), len(ids.unique())
    factor = (batch - 1) / (batch - n_groups)

    def loss(rows: Tensor) -> Tensor:
        rows = _widened(rows)
        groups = (rows if sorted_already else rows[order]).unflatten(0, (n_groups, batch // n_groups))
        within = (groups - groups.mean(1, keepdim=True)).square().sum()
        total = (rows - rows.mean(0)).square().sum()
        return factor * within / total

    return loss


def _why_not_metric_learning(_device: torch.device) -> str | None:
    if importlib.util.find_spec("pytorch_metric_learning") is None:
        return "pytorch-metric-learning is not installed (pip install 'dainv[bench]')"
    return None


def _why_not_compiled(device: torch.device) -> str | None:
    if device.type == "cpu" and not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler for a CPU"
    return None


@dataclass(frozen=True)
class Peer:
    """Another way to compute Eq. 3 of a layer.

    Attributes:
        description: what it does, in one line.
        layer_loss: ``(B,)`` group of each sample to the loss of a layer; what is done here is not timed.
        why_not: None, or the reason why it cannot be timed on a device.
        cancels: whether distances come out as small differences of large squares; sets the error it is allowed.
        compiled: whether torch.compile has the whole of what is timed.
    """

    description: str
    layer_loss: Callable[[Tensor], LayerLoss]
    why_not: Callable[[torch.device], str | None] = lambda _device: None
    cancels: bool = False
    compiled: bool = False


PEERS = {
    "published": Peer("B x B distances by the Gram identity, masks", published, cancels=True),
    "cdist": Peer("B x B distances by torch.cdist, masks", cdist, cancels=True),
    "metric-learning": Peer(
        "B x B distances by pytorch-metric-learning, masks", metric_learning, _why_not_metric_learning, cancels=True
    ),
    "closed-form": Peer("sums of squares around means, plain autograd", closed_form),
    "compiled": Peer("closed-form by torch.compile", closed_form, _why_not_compiled, compiled=True),
}
