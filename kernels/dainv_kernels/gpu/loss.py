"""From the two sums of squares to the loss, and from them to what its gradient is made of; on the device."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def store_loss(weighted, total, sums_ptr, loss_ptr):
    """Store both sums and their ratio; 0 where the total is below the smallest normal number of the loss's dtype.

    Such squares have lost their digits, and 1 / total is more than the dtype holds; within groups, rounding of theirs
    can leave less than nothing. NaN is not below anything.
    """
    SMALLEST: tl.constexpr = 2.0**-1022 if loss_ptr.dtype.element_ty == tl.float64 else 2.0**-126
    constant = total < SMALLEST
    weighted = tl.where(constant | (weighted < 0), 0.0, weighted)
    tl.store(sums_ptr, weighted)
    tl.store(sums_ptr + 1, tl.where(constant, 0.0, total))
    loss = weighted / tl.where(constant, 1.0, total)
    tl.store(loss_ptr, loss.to(loss_ptr.dtype.element_ty))


@triton.jit
def load_sums(sums_ptr, grad_loss_ptr):
    """W, T, T with 1 in place of 0, and 2 g / T with the upstream gradient g: 0 where T is."""
    weighted = tl.load(sums_ptr)
    total = tl.load(sums_ptr + 1)
    safe_total = tl.where(total == 0, 1.0, total)
    scale = tl.where(total == 0, 0.0, 2 * tl.load(grad_loss_ptr).to(tl.float64) / safe_total)
    return weighted, total, safe_total, scale
