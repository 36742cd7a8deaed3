"""The batch that several processes have together: one exchange a layer turns sums of one's own samples into all's.

What every process's kernels leave, two sums of squares and a mean, is gathered by all and merged by Chan's formula:
W = sum_r W_r and T = sum_r T_r + sum_r B_r |m_r - m|^2. A group never spans processes: ids mean something within one
only. See kernels/README.md for what goes over the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, distributed

from dainv_kernels.groups import Groups
from dainv_kernels.layout import accumulator_dtype, copied_rows, write_rows

if TYPE_CHECKING:  # not every build of torch has it
    from torch.distributed import ProcessGroup

Joined = tuple[Tensor, Tensor, Tensor, Tensor]

_SIZES = 8  # numbers in which processes tell each other the shape of a sample: D, then its dimensions
_MET: WeakKeyDictionary[ProcessGroup, set[torch.Size]] = WeakKeyDictionary()  # shapes that all processes have


class Batch:
    """The own part of a joined batch, and how to reach the other processes.

    Raises:
        TypeError: not a process group.
        ValueError: a backend that needs all pairs of samples.
    """

    def __init__(self, groups: Groups, normalization: str, backend: str, process_group: ProcessGroup) -> None:
        _check(process_group, backend)
        self.segments = groups.segments(normalization)
        self.counts = groups.counts
        self.normalization = normalization
        self.backend = backend
        self.process_group = process_group
        self.size = process_group.size()

    def join(self, features: Tensor, sums: Tensor, mean_offset: Tensor) -> Joined:
        """From what the own samples give to what all give.

        Args:
            features: ``(B_r, ...)``, the own samples.
            sums: ``(2,)`` float64, their weighted within-group and total sums of squares.
            mean_offset: ``(D,)`` their mean, as an offset from the first of them.

        Returns:
            0-d loss; ``(2,)`` sums; ``(D,)`` mean as an offset from the own first sample; ``(B_r,)`` weights of the
            own groups: all of the joined batch.

        Raises:
            ValueError: features of another shape in another process.
        """
        self._compare(features.shape[1:])
        first = copied_rows(features[:1], features)[0].double()
        everyone = self._parts(features, sums, first + mean_offset)
        counts, sums, means = everyone.split([2, 2, everyone.shape[1] - 4], dim=1)
        samples = counts[:, :1]
        # The own weights are a number of the whole batch times one of the group: change the former.
        own, joint = _of_batch(counts, self.normalization), _of_batch(counts.sum(0), self.normalization)
        rescale = torch.where(own == 0, 0.0, joint / own)
        # From the first process's mean, so that equal samples are exactly 0 apart wherever they are.
        from_first_mean = means - means[0]
        mean = (samples * from_first_mean).sum(0) / samples.sum()
        between = (samples * (from_first_mean - mean).square()).sum()
        within, total = sums.unbind(1)
        weighted, total = (rescale * within).sum(), total.sum() + between
        dtype = accumulator_dtype(features.dtype)
        constant = total < torch.finfo(dtype).tiny
        weighted, total = torch.where(constant, 0.0, torch.stack([weighted, total]))
        loss = torch.where(constant, 0.0, weighted / total)
        logical = (means[0] + mean).view(1, *features.shape[1:])
        offset = copied_rows(logical, features)[0] - first
        weights = self.segments.weights * rescale[self.process_group.rank()]
        return loss.to(dtype), torch.stack([weighted, total]), offset.to(dtype), weights

    def _compare(self, shape: torch.Size) -> None:
        """See that a sample has the same shape everywhere, once for each shape that the process group has not met.

        Parts of different length are nothing that libraries of collectives could gather: some wait for ever, and gloo
        ends the process that gets more than it has room for.

        Raises:
            ValueError: it has not.
        """
        met = _MET.setdefault(self.process_group, set())
        if shape in met:
            return
        own = torch.tensor([shape.numel(), *shape, *[0] * _SIZES][:_SIZES], device=self.counts.device)
        everyone = self._gather(own)
        if (everyone != own).any():
            shapes = ", ".join(str((*filter(None, sizes[1:]),)) for sizes in everyone.tolist())
            raise ValueError(f"features: expected samples of the same shape in every process, got {shapes} by rank")
        met.add(shape)

    def _parts(self, features: Tensor, sums: Tensor, mean: Tensor) -> Tensor:
        """``(processes, 4 + D)`` float64: number of samples and of pairs, both sums, the mean in the order of (C, ...).

        The order of storage may be another one on every process.
        """
        own = torch.empty(4 + len(mean), dtype=torch.float64, device=mean.device)
        own[:2], own[2:4] = self.counts, sums
        write_rows(mean[None], own[4:].view(1, *features.shape[1:]), features)
        return self._gather(own)

    def _gather(self, own: Tensor) -> Tensor:
        """``(processes, n)`` from the n numbers of each."""
        everyone = own.new_empty(self.size * len(own))
        distributed.all_gather_into_tensor(everyone, own, group=self.process_group)
        return everyone.view(self.size, -1)


def _check(process_group: ProcessGroup, backend: str) -> None:
    if not distributed.is_available() or not isinstance(process_group, distributed.ProcessGroup):
        raise TypeError(
            f"process_group: expected None or a torch.distributed.ProcessGroup, got {type(process_group).__name__}"
        )
    if backend in ("reference", "triton-pairwise"):
        raise ValueError(
            f"backend: {backend!r} compares pairs of samples, which several processes do not have in one place; "
            "expected 'auto' or a closed form, such as 'torch', with a process_group"
        )


def _of_batch(counts: Tensor, normalization: str) -> Tensor:
    """What the weights of all groups of a batch have in common (:meth:`Groups.weights`), from its counts."""
    samples, pairs = counts.unbind(-1)
    return samples if normalization == "printed" else torch.where(pairs > 0, (samples - 1) / pairs.clamp(min=1), 0.0)
