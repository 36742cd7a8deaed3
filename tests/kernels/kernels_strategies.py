"""Random batches for hypothesis.

The normal run takes a few fixed cases of each property. ``DAINV_CASES=10000`` takes that many random ones instead:

    DAINV_CASES=10000 python -m pytest tests/kernels/test_kernels_properties.py -k 'torch-cpu and digits' -o timeout=0 \
        --hypothesis-seed=1 --hypothesis-show-statistics

The "highest target scores" of the statistics are then the largest ratios of error to bound that were met.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from kernels_checks import DTYPES
from torch import Tensor

from dainv_kernels import Groups

_ASKED = int(os.environ.get("DAINV_CASES", "0"))


def cases(normally: int) -> settings:
    """So many fixed cases of a property, or as many random ones as ``DAINV_CASES`` asks for."""
    return settings(
        max_examples=_ASKED or normally,
        derandomize=not _ASKED,
        database=None,
        deadline=None,
        # Fixtures name a backend and a device, which no case changes.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def _between_nan(x: Tensor, index: tuple[slice, ...], shape: tuple[int, ...]) -> Tensor:
    """The values as a part of something larger that is NaN elsewhere, so that reading past them is seen."""
    larger = torch.full(shape, torch.nan, dtype=x.dtype, device=x.device)
    larger[index] = x
    return larger[index]


ALL = slice(None)

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": torch.clone,
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "batch innermost": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "features reversed": lambda x: x.transpose(1, -1).contiguous().transpose(1, -1),
    "part of a larger batch": lambda x: _between_nan(x, (slice(2, 2 + len(x)),), (len(x) + 3, *x.shape[1:])),
    "every other sample": lambda x: _between_nan(x, (slice(1, None, 2),), (2 * len(x), *x.shape[1:])),
    "padded": lambda x: _between_nan(x, (..., slice(3, 3 + x.shape[-1])), (*x.shape[:-1], x.shape[-1] + 5)),
    "every other feature": lambda x: _between_nan(x, (..., slice(0, None, 2)), (*x.shape[:-1], 2 * x.shape[-1])),
    "broadcast channels": lambda x: x[:, :1].clone().expand_as(x),
    "broadcast pixels": lambda x: x[..., :1].clone().expand_as(x),
}

# What a dtype holds: powers of two that scale the noise, and means in units of it.
_SCALES = {torch.float16: (-6, 6), torch.bfloat16: (-30, 30), torch.float32: (-30, 30), torch.float64: (-100, 100)}
_OFFSETS = {
    torch.float16: (0.0, 1.0, -8.0),
    torch.bfloat16: (0.0, 1.0, -8.0),
    torch.float32: (0.0, 1.0, -30.0, 1e3, 1e4),
    torch.float64: (0.0, -30.0, 1e6),
}


@dataclass(frozen=True)
class Case:
    """One batch; ``repr`` is what hypothesis prints of a failure, and enough to make it again."""

    ids: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: str
    normalization: str
    offset: float  # in units of the noise between groups, as is the next
    spread: float  # within groups
    scale: int  # a power of two
    seed: int
    views: int = 0  # M, where the ids are that many of each

    def features(self, device: torch.device) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        group = self.id_tensor().unique(return_inverse=True)[1]
        centres = torch.randn(int(group.max()) + 1, *self.shape, generator=generator, dtype=torch.float64)[group]
        noise = torch.randn(len(self.ids), *self.shape, generator=generator, dtype=torch.float64)
        x = (self.offset + centres + self.spread * noise) * 2.0**self.scale
        return LAYOUTS[self.layout](x.to(device, self.dtype))

    def id_tensor(self) -> Tensor:
        return torch.tensor(self.ids)

    def groups(self, device: torch.device) -> Tensor | Groups:
        if self.views:
            return Groups.consecutive(len(self.ids) // self.views, self.views, device=device)
        return self.id_tensor().to(device)


def _consecutive(n_groups: int, views: int) -> tuple[tuple[int, ...], int]:
    return tuple(sample // views for sample in range(n_groups * views)), views


_equal_groups = st.builds(_consecutive, st.integers(1, 9), st.integers(1, 8)).filter(lambda ids: len(ids[0]) > 1)
_any_groups = st.lists(st.integers(-3, 12), min_size=2, max_size=60).map(lambda ids: (tuple(ids), 0))
_huge_ids = st.lists(st.sampled_from([-(2**63), -1, 0, 2**40, 2**63 - 1]), min_size=2, max_size=24).map(
    lambda ids: (tuple(ids), 0)
)
_shapes = st.one_of(
    st.tuples(st.integers(1, 300)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)


@st.composite
def batches(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Case:
    """Any batch that the operator takes: its groups, shape, dtype, layout, unit, mean and structure."""
    ids, views = draw(st.one_of(_equal_groups, _any_groups, _huge_ids))
    dtype = draw(st.sampled_from(dtypes))
    return Case(
        ids,
        draw(_shapes),
        dtype,
        draw(st.sampled_from(sorted(LAYOUTS))),
        draw(st.sampled_from(["pairs", "printed"])),
        draw(st.sampled_from(_OFFSETS[dtype])),
        draw(st.sampled_from([1.0, 0.5, 0.05, 0.0])),
        draw(st.integers(*_SCALES[dtype])),
        draw(st.integers(0, 2**31 - 1)),
        views,
    )
