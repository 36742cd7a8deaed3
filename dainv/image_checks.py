"""What counts as images everywhere: float tensors ``(N, C, H, W)`` with values in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-4  # what interpolation may do beyond [0, 1]


def check_form(images: object) -> None:
    """Whether these are images by shape and dtype.

    Raises:
        ValueError: another shape or dtype, or no tensor.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"images: expected a float tensor of shape (N, C, H, W), got {type(images).__name__}")
    if images.ndim != 4 or not images.is_floating_point():
        hint = "; divide by 255" if images.dtype == torch.uint8 else ""
        raise ValueError(
            f"images: expected float images of shape (N, C, H, W), got {images.dtype} {tuple(images.shape)}{hint}"
        )


class RangeCheck:
    """Lowest and highest value of many batches, kept on their device: looking at each would make the host wait for it.

    Args:
        device: of the batches.
    """

    def __init__(self, device: torch.device) -> None:
        self._ends = torch.tensor([0.0, 1.0], device=device)

    def add(self, batch: Tensor) -> None:
        """Take a batch into account."""
        low, high = batch.aminmax()
        self._ends = torch.stack([torch.minimum(self._ends[0], low), torch.maximum(self._ends[1], high)]).float()

    def outside(self) -> str | None:
        """None where all was in [0, 1], but for rounding; else what came."""
        low, high = self._ends.tolist()
        if low >= -ROUNDING and high <= 1 + ROUNDING:
            return None
        return f"{low:.6g} to {high:.6g}"

    def refuse(self) -> None:
        """Refuse images that were not.

        Raises:
            ValueError: values outside [0, 1], or NaN.
        """
        if came := self.outside():
            raise ValueError(f"images: expected values in [0, 1], got {came}")


def check_images(images: object) -> None:
    """Whether these are images, values included.

    Raises:
        ValueError: another shape, dtype or range, or no tensor.
    """
    check_form(images)
    assert isinstance(images, Tensor)
    if images.numel():
        check = RangeCheck(images.device)
        check.add(images)
        check.refuse()
