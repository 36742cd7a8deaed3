"""Every way a batch can lie in memory: the same numbers, and gradients in the layout of the features."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels_checks import assert_true, evaluate
from kernels_inputs import D, grouped, noise, shuffled
from torch import Tensor

from dainv_kernels import Groups
from dainv_kernels.layout import sample_rows

K, M = 4, 3  # small: it is the layout that matters here
B = K * M
IDS = torch.arange(K).repeat_interleave(M)

# Group structure comes from the partition alone here: pure noise has loss and gradient enough for a comparison.
DENSE: dict[str, Callable[[], Tensor]] = {
    "rows": lambda: noise(B, D),
    "one feature": lambda: noise(B, 1),
    "transposed": lambda: noise(D, B).t(),
    "one feature, transposed": lambda: noise(1, B).t(),
    "tokens": lambda: noise(B, 6, 8),
    "tokens, channels first": lambda: noise(B, 6, 8).transpose(1, 2),
    "images": lambda: noise(B, 6, 5, 4),
    "images, channels last": lambda: noise(B, 6, 5, 4).contiguous(memory_format=torch.channels_last),
    "images of one pixel, channels last": lambda: noise(B, 24, 1, 1).contiguous(memory_format=torch.channels_last),
    "images of one channel, channels last": lambda: noise(B, 1, 5, 4).contiguous(memory_format=torch.channels_last),
    "images, batch innermost": lambda: noise(6, 5, 4, B).permute(3, 0, 1, 2),
    "images, batch between": lambda: noise(6, B, 5, 4).transpose(0, 1),
    "volumes, channels last": lambda: noise(B, 3, 2, 4, 5).contiguous(memory_format=torch.channels_last_3d),
    "part of a larger batch": lambda: noise(B + 10, D)[3 : B + 3],
}
STRIDED: dict[str, Callable[[], Tensor]] = {
    "every other row": lambda: noise(2 * B, D)[::2],
    "padded rows": lambda: noise(B, 128)[:, :D],
    "padded rows, unaligned": lambda: noise(B, 128)[:, 13 : 13 + D],
    "every other column": lambda: noise(B, 2 * D)[:, ::2],
    "one column": lambda: noise(B, D)[:, 5:6],
    "expanded features": lambda: noise(B, 1).expand(B, D),
    "every other image, channels last": lambda: noise(2 * B, 6, 5, 4).contiguous(memory_format=torch.channels_last)[
        1::2
    ],
    "some channels": lambda: noise(B, 12, 5, 4)[:, 3:9],
    "inside of images, channels last": lambda: noise(B, 6, 7, 6).contiguous(memory_format=torch.channels_last)[
        :, :, 1:-1, 1:-1
    ],
    "expanded pixels": lambda: noise(B, 6, 1, 1).expand(B, 6, 5, 4),
    "expanded channels": lambda: noise(B, 1, 5, 4).expand(B, 6, 5, 4),
}
LAYOUTS = DENSE | STRIDED


def like(features: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The same values in the same strides: ``.to`` alone would tidy up what is not dense."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(features.shape, features.stride(), strict=True))
    storage = features.as_strided((span,), (1,)).to(device, dtype)
    return storage.as_strided(features.shape, features.stride())


def strides_that_matter(x: Tensor) -> list[int]:
    return [stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1]


@pytest.mark.parametrize("order", ["consecutive", "shuffled"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_does_not_change_the_numbers(backend: str, device: torch.device, layout: str, order: str) -> None:
    x = like(LAYOUTS[layout](), torch.float32, device)
    assert x.stride() == LAYOUTS[layout]().stride()
    if order == "consecutive":
        assert_true(x, IDS.to(device), backend, groups=Groups.consecutive(K, M, device=device))
    else:
        assert_true(x, shuffled(IDS).to(device), backend)


@pytest.mark.parametrize("layout", DENSE)
def test_gradient_lies_in_memory_as_the_features_do(
    closed_form_backend: str, device: torch.device, layout: str
) -> None:
    # Not a leaf's .grad, which autograd itself lays out like the leaf: the gradient as the layer before receives it.
    x = like(DENSE[layout](), torch.float32, device)
    _, gradient = evaluate(x, IDS.to(device), closed_form_backend)
    assert strides_that_matter(gradient) == strides_that_matter(x)


@pytest.mark.parametrize("layout", ["images, channels last", "padded rows", "every other row", "tokens"])
def test_features_are_viewed_and_not_copied(device: torch.device, layout: str) -> None:
    x = like(LAYOUTS[layout](), torch.float32, device)
    rows = sample_rows(x)
    assert rows.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert rows.shape == (B, x[0].numel())
    assert rows.stride(1) == 1


def test_rows_further_apart_than_32_bits_count(backend: str, device: torch.device) -> None:
    ids, apart = torch.tensor([0, 1, 0, 1, 1]), 2**29 + 8
    memory = torch.empty(4 * apart + D, dtype=torch.bfloat16, device=device)  # of which a few pages are ever touched
    far = memory.as_strided((5, D), (apart, 1))
    far.copy_(grouped(ids, D))
    assert_true(far, ids.to(device), backend)
