"""From source images to the views that a step trains on, all of it on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from dainv.augment import Augmentation, draw_uniform
from dainv_kernels import available_backends


class Views:
    """Makes M augmented views of each source image of a step.

    Args:
        scheme: of augmentation.
        views: M.
        joined: source images in the whole batch, of which this process may have a share.
        share: which of them are its own.
        generator: of the scheme's parameters. They are drawn for the whole batch, so that several processes with a
            generator each in the same state see the same views as one process.
    """

    def __init__(self, scheme: Augmentation, views: int, joined: int, share: slice, generator: torch.Generator) -> None:
        first, last, _ = share.indices(joined)
        self.scheme, self.generator = scheme, generator
        self._views, self._joined = views, joined * views
        self._rows = slice(first * views, last * views)
        # One kernel instead of more than a hundred.
        self._in_one = generator.device.type == "cuda" and "triton" in available_backends()

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Draw and apply.

        Args:
            images: ``(k, C, H, W)`` uint8, this process's source images.
            labels: ``(k,)``.

        Returns:
            ``(k M, C, H, W)`` float32 views in [0, 1], channels_last, the M of an image one after the other; and their
            ``(k M,)`` labels.
        """
        return self._augmented(images), self._repeat(labels)

    def _augmented(self, images: Tensor) -> Tensor:
        if not self.scheme.ranges:
            return self._repeat(_in_unit(images)).contiguous(memory_format=torch.channels_last)
        uniform = draw_uniform(self._joined, self.generator, images.device)[self._rows]
        if self._in_one:
            from dainv.training.view_kernel import augmented_views  # imported late: there may be no Triton

            return augmented_views(images, uniform, self._views, self.scheme)
        views = self.scheme.apply(self._repeat(_in_unit(images)), self.scheme.parameters_of(uniform))
        return views.contiguous(memory_format=torch.channels_last)

    def _repeat(self, values: Tensor) -> Tensor:
        return values[:, None].expand(-1, self._views, *values.shape[1:]).flatten(0, 1)


def _in_unit(images: Tensor) -> Tensor:
    return images.to(torch.float32).div_(255)
