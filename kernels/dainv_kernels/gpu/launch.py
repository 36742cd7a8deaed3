"""What all launches have in common."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from dainv_kernels.layout import accumulator_dtype


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Tensor | int | None, **constants: Any) -> None:
    """Run a kernel on the device of its tensors.

    Products are added in one rounding (fused multiply-add): half the instructions of a sum of squares, and what its
    registers are counted for. Triton up to 3.9 does so unasked, newer ones on request.
    """
    with torch.cuda.device_of(next(argument for argument in arguments if isinstance(argument, Tensor))):
        kernel[grid](*arguments, enable_fp_fusion=True, **constants)


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """Of features of a dtype, as :func:`dainv_kernels.layout.accumulator_dtype`."""
    return tl.float64 if accumulator_dtype(dtype) == torch.float64 else tl.float32


def row_stride(rows: Tensor | None) -> int:
    """Elements from one row to the next; 0 where there are no rows."""
    return 0 if rows is None else rows.stride(0)
