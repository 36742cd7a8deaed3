"""Which samples of a batch belong together: the sets S_k of Eq. 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

NORMALIZATIONS = ("pairs", "printed")


class Segments(NamedTuple):
    """What the closed form needs to know of the groups; see also :class:`Groups`.

    Attributes:
        rows: ``(B,)`` samples sorted by group.
        bounds: ``(B + 1,)`` where each group starts in that order.
        n_groups: 0-d, the number of groups.
        weights: ``(B,)`` float64, the factor of each group's sum of squares.
        arrived: 0-d int32, always 0 between two operations: the programs of a kernel count here which of them is the
            last.
        views: M for consecutive equal groups, else 0.
    """

    rows: Tensor
    bounds: Tensor
    n_groups: Tensor
    weights: Tensor
    arrived: Tensor
    views: int

    def tensors(self) -> list[Tensor]:
        """All but the views, as registered operators take them."""
        return [self.rows, self.bounds, self.n_groups, self.weights, self.arrived]

    def ids(self) -> Tensor:
        """``(B,)`` int64: the group 0 ... K - 1 of each sample, in the order of the batch."""
        position = torch.arange(len(self.rows), device=self.rows.device)
        group = torch.searchsorted(self.bounds[1:].contiguous(), position, right=True)
        return torch.zeros_like(group).scatter(0, self.rows, group)

    @classmethod
    def of(cls, tensors: Sequence[Tensor], views: int) -> Segments:
        """The inverse of :meth:`tensors`."""
        rows, bounds, n_groups, weights, arrived = tensors
        return cls(rows, bounds, n_groups, weights, arrived, views)


@dataclass(frozen=True, eq=False)
class Groups:
    """The samples of a batch in the order of their groups; made once a batch and shared by all layers.

    Build it with :meth:`from_ids` or :meth:`consecutive`. Every tensor has a size known beforehand and nothing is
    read back to the host, so that it can be made inside a CUDA graph or a compiled function. One that is made under
    ``torch.inference_mode`` serves in training too. Kernels on a GPU count in it how many of their programs are done:
    there it serves one stream at a time. It equals nothing but itself.

    Attributes:
        rows: ``(B,)`` int64, the samples sorted by group.
        bounds: ``(B + 1,)`` int64; group k is ``rows[bounds[k]:bounds[k + 1]]``; past the last group it stays at B.
        n_groups: 0-d int64, the number K of groups.
        pairs_weights: ``(B,)`` float64, see :meth:`weights`.
        printed_weights: ``(B,)`` float64, see :meth:`weights`.
        counts: ``(2,)`` float64, the number B of samples and that of ordered pairs, sum_k n_k (n_k - 1).
        views: M where the batch is K groups of M consecutive samples, else 0. Kernels then skip the indirection.
    """

    rows: Tensor
    bounds: Tensor
    n_groups: Tensor
    pairs_weights: Tensor
    printed_weights: Tensor
    counts: Tensor
    _arrived: Tensor = field(repr=False)
    views: int = 0

    @classmethod
    @torch.inference_mode(False)  # whose tensors cannot be kept for a backward pass
    def from_ids(cls, ids: Tensor) -> Groups:
        """Groups from one integer id a sample, in any order, of any sizes.

        Args:
            ids: ``(B,)`` integer tensor; samples with equal ids form a group (source images, class labels, ...).

        Raises:
            TypeError: ids is not a dense integer tensor.
            ValueError: ids is not one-dimensional.
        """
        if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            kind = f"a {ids.dtype} tensor" if isinstance(ids, Tensor) else type(ids).__name__
            raise TypeError(f"groups: expected a tensor of integer ids, got {kind}")
        if ids.layout != torch.strided:
            raise TypeError(f"groups: expected a dense tensor of ids, got one of layout {ids.layout}")
        if ids.ndim != 1:
            raise ValueError(f"groups: expected one id a sample, shape (B,), got shape {tuple(ids.shape)}")
        n = ids.shape[0]
        if ids.dtype in (torch.uint16, torch.uint32, torch.uint64):
            ids = ids.to(torch.int64)  # old versions of torch cannot index them
        rows = torch.argsort(ids, stable=True)
        ordered = ids[rows]
        starts_group = torch.ones(n, dtype=torch.int64, device=ids.device)
        starts_group[1:] = (ordered[1:] != ordered[:-1]).to(torch.int64)
        group = starts_group.cumsum(0) - 1
        sizes = torch.zeros(n, dtype=torch.int64, device=ids.device)
        sizes = sizes.scatter_add(0, group, torch.ones_like(group))  # integers: the order of additions cannot matter
        bounds = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        return cls(rows, bounds, starts_group.sum(), *_weights(bounds))

    @classmethod
    @torch.inference_mode(False)  # whose tensors cannot be kept for a backward pass
    def consecutive(cls, n_groups: int, views: int, device: torch.device | str | None = None) -> Groups:
        """K groups of M samples each, one after the other: the batch of Section 2.3.

        Args:
            n_groups: K, the number of source images.
            views: M, the number of augmented views of each.
            device: where the features will be.

        Raises:
            TypeError: n_groups or views is not an integer.
            ValueError: n_groups or views is below 1.
        """
        for number in (n_groups, views):
            if not isinstance(number, (Integral, torch.SymInt)):
                raise TypeError(f"groups: expected integers, n_groups and views, got {n_groups!r} and {views!r}")
        if n_groups < 1 or views < 1:
            raise ValueError(f"groups: expected at least one group of one view, got {n_groups} of {views}")
        n = n_groups * views
        rows = torch.arange(n, device=device)
        bounds = (torch.arange(n + 1, device=device) * views).clamp(max=n)
        return cls(rows, bounds, torch.full((), n_groups, device=device), *_weights(bounds), views)

    def __len__(self) -> int:
        """B, the number of samples."""
        return self.rows.shape[0]

    def sizes(self) -> Tensor:
        """``(B,)`` int64: the number n_k of samples of each group, 0 past the last one."""
        return self.bounds.diff()

    def ids(self) -> Tensor:
        """``(B,)`` int64: the group 0 ... K - 1 of each sample, in the order of the batch."""
        return self.segments("pairs").ids()

    def weights(self, normalization: str) -> Tensor:
        """The factor of each group's sum of squares W_k in ``L = sum_k weight_k * W_k / T``.

        ``"pairs"``: n_k (B - 1) / sum_j n_j (n_j - 1), the mean over distinct pairs; 0 where no group has a pair.
        ``"printed"``: B / n_k, Eq. 3 to the letter, self-pairs counted.

        Returns:
            ``(B,)`` float64, 0 past the last group.

        Raises:
            ValueError: unknown normalization.
        """
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, got {normalization!r}")
        return self.pairs_weights if normalization == "pairs" else self.printed_weights

    def segments(self, normalization: str) -> Segments:
        """The groups as the closed form takes them, with the weights of a normalization; see :meth:`weights`."""
        return Segments(self.rows, self.bounds, self.n_groups, self.weights(normalization), self._arrived, self.views)


def _weights(bounds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights under both normalizations, made here so that nine layers do not make them nine times; both counts."""
    n = bounds.diff().to(torch.float64)
    batch = len(n)
    pairs = (n * (n - 1)).sum()
    in_pairs = torch.where(pairs > 0, n * (batch - 1) / pairs.clamp(min=1), 0.0)
    printed = torch.where(n > 1, batch / n.clamp(min=1), 0.0)
    counts = torch.stack([n.sum(), pairs])
    return in_pairs, printed, counts, torch.zeros((), dtype=torch.int32, device=bounds.device)
