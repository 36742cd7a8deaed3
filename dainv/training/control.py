"""One batch of test images that stays the same, to compare epochs and runs by."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dainv.augment import Augmentation
from dainv.data import Split
from dainv.models.tapped import TappedNetwork
from dainv.taps import evaluating
from dainv_kernels import Groups


class ControlBatch(NamedTuple):
    """Views, the M of an image one after the other, their groups, and how losses are taken."""

    views: Tensor
    groups: Groups
    options: dict[str, Any]

    def losses(self, tapped: TappedNetwork) -> dict[str, float]:
        """Eq. 3 of each layer in eval mode."""
        with evaluating(tapped):
            weights = [0.0] * len(tapped.layer_names)
            _, losses = tapped.forward_losses(self.views.clone(), self.groups, weights, **self.options)
        return dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))


def control_batch(
    test: Split,
    scheme: Augmentation,
    n_images: int,
    views: int,
    seed: int,
    device: torch.device,
    options: dict[str, Any],
) -> ControlBatch:
    """The same views in every epoch and in every run with this seed.

    Args:
        test: test images.
        scheme: of their augmentation.
        n_images: K, or as many as there are.
        views: M.
        seed: of the choice and the draws.
        device: where the batch is to be.
        options: of :meth:`TappedNetwork.forward_losses`.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(test), generator=generator)[:n_images].to(device)
    images = test.batch(chosen).repeat_interleave(views, dim=0)
    made = scheme.apply(images, scheme.parameters(len(images), generator).to(device))
    groups = Groups.consecutive(len(chosen), views, device)
    return ControlBatch(made.contiguous(memory_format=torch.channels_last), groups, options)
