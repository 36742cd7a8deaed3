"""What a step differentiates: forward pass, task loss and Eq. 4, as one module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dainv.models.tapped import TappedNetwork
from dainv.objective import weigh
from dainv.training.precision import autocast
from dainv_kernels import Groups

# Columns of the table of losses that come before those of the layers.
TOTAL, TASK, ACCURACY, LAYERS = 0, 1, 2, 3


class StepLosses(nn.Module):
    """Losses of a batch, or of this process's share of one; a module, so that it can be compiled and distributed.

    The mean over the processes of what it returns is what one process with the whole batch would return, and so is
    the mean of the gradients.

    Args:
        tapped: the network.
        groups: of the views that come here.
        weights: alpha^(l) of Eq. 4. They may be replaced; what was compiled or recorded with the old ones has to be so
            anew.
        batch_size: B, views in the whole batch.
        processes: among which it is shared out.
        precision: see :func:`dainv.training.precision.autocast`.
        options: of :meth:`TappedNetwork.forward_losses`.
    """

    def __init__(
        self,
        tapped: TappedNetwork,
        groups: Groups,
        weights: tuple[float, ...],
        *,
        batch_size: int,
        processes: int,
        precision: str,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.tapped, self.groups, self.weights = tapped, groups, weights
        self._batch_size, self._processes = batch_size, processes
        self._precision, self._options = precision, options

    def forward(self, views: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The total loss (Eq. 4), to be differentiated, and a row of the table of losses: ``(3 + L,)`` float32.

        Args:
            views: ``(b, C, H, W)`` float32 in [0, 1].
            labels: ``(b,)``.
        """
        with autocast(self._precision, views.device):
            logits, losses = self.tapped.forward_losses(views, self.groups, self.weights, **self._options)
        logits = logits.to(torch.float32)
        right = (logits.argmax(1) == labels).float()
        if self._processes == 1:
            task, accuracy = functional.cross_entropy(logits, labels), right.mean()
        else:  # shares need not be equal: a sum over them all, such that the mean over processes is the batch's
            share = self._processes / self._batch_size
            task, accuracy = functional.cross_entropy(logits, labels, reduction="sum") * share, right.sum() * share
        total = weigh(task, losses, self.weights).total
        return total, torch.stack([value.detach().float() for value in (total, task, accuracy, *losses.values())])
