"""What the kernels are timed on: shapes, dtypes and layouts of features, declared as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from dainv.models.allcnn import AllCNNC
from dainv_bench.workload import IMAGE_SIZE
from dainv_kernels import Groups
from dainv_kernels.layout import sample_rows

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LAYOUTS = ("channels_last", "contiguous", "sliced", "shuffled-ids")
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES}  # as the command line calls them
_GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Case:
    """The features of one layer.

    Attributes:
        batch: B, samples.
        views: M, samples a group.
        shape: of one sample, ``(C, H, W)``.
        dtype: of the features.
        layout: ``"channels_last"`` and ``"contiguous"``; ``"sliced"``: half the channels of a tensor twice as wide;
            ``"shuffled-ids"``: channels_last, the samples in no order.
    """

    batch: int
    views: int
    shape: tuple[int, int, int]
    dtype: torch.dtype = torch.float32
    layout: str = "channels_last"

    @property
    def n_images(self) -> int:
        """K, the number of groups."""
        return self.batch // self.views

    @property
    def features(self) -> int:
        """D, features a sample."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """B * D * s: what one pass over the features moves."""
        return self.batch * self.features * self.dtype.itemsize

    def ids(self, device: torch.device | str) -> Tensor:
        """``(B,)`` group of each sample."""
        ids = torch.arange(self.n_images).repeat_interleave(self.views)
        if self.layout == "shuffled-ids":
            ids = ids[torch.randperm(self.batch, generator=torch.Generator().manual_seed(0))]
        return ids.to(device)

    def groups(self, device: torch.device | str) -> Groups:
        """The same as the operator takes it; without a table where samples of a group follow each other."""
        if self.layout == "shuffled-ids":
            return Groups.from_ids(self.ids(device))
        return Groups.consecutive(self.n_images, self.views, device)


@dataclass(frozen=True)
class Workload:
    """What is timed as one: the features of a layer, or those of several layers one after the other."""

    name: str
    cases: tuple[Case, ...]

    @property
    def nbytes(self) -> int:
        """What one pass over all features moves."""
        return sum(case.nbytes for case in self.cases)

    def to(self, dtype: torch.dtype) -> Workload:
        """The same in another dtype."""
        return replace(self, cases=tuple(replace(case, dtype=dtype) for case in self.cases))


class InputSet(NamedTuple):
    """One tensor a layer: the features, and an upstream gradient for those methods that have an activation."""

    features: tuple[Tensor, ...]
    upstream: tuple[Tensor, ...]


def layer_shapes() -> dict[str, tuple[int, int, int]]:
    """Layer -> shape of one sample of its activations, from a forward pass of All-CNN-C that computes nothing."""
    with torch.device("meta"):
        _, activations = AllCNNC().forward_taps(torch.empty(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    return {name: (x.shape[1], x.shape[2], x.shape[3]) for name, x in activations.items()}


def workloads(dtype: torch.dtype, batch: int = 128, views: int = 8) -> list[Workload]:
    """All that is declared, in one dtype.

    The layers of All-CNN-C, those of one shape once; all of them, one after the other; a middle layer in other
    layouts; other batches and group sizes; and a gigabyte of features.

    Args:
        dtype: of the features.
        batch: B of the layers of All-CNN-C.
        views: M there.
    """
    shapes = layer_shapes()
    layers = {name: Case(batch, views, shape, dtype) for name, shape in shapes.items()}
    found = [
        Workload(names[0] if len(names) == 1 else f"{names[0]}-{names[-1].removeprefix('layer')}", (case,))
        for case, names in (
            (case, [name for name, _ in run]) for case, run in groupby(layers.items(), key=lambda item: item[1])
        )
    ]
    found.append(Workload("all-layers", tuple(layers.values())))
    middle, deep = layers["layer4"], layers["layer7"]
    found += [Workload(layout, (replace(middle, layout=layout),)) for layout in LAYOUTS if layout != middle.layout]
    found += [
        Workload("pairs-of-views", (replace(deep, views=2),)),
        Workload("large-groups", (replace(deep, views=batch // 2),)),
        Workload("large-batch", (replace(deep, batch=8 * batch),)),
    ]
    channels = _GIGABYTE // (batch * dtype.itemsize * 64 * 64)
    found.append(Workload("gigabyte", (Case(batch, views, (channels, 64, 64), dtype),)))
    return found


def make_sets(workload: Workload, number: int, seed: int, device: torch.device) -> list[InputSet]:
    """The same input ``number`` times in different places of memory.

    A call on a set that was not touched for as long as a cache lasts finds nothing of it in there.
    """
    generator = torch.Generator(device).manual_seed(seed)
    first = InputSet(
        tuple(_features(case, generator, device) for case in workload.cases),
        tuple(_noise(case, generator, device) for case in workload.cases),
    )
    sets = [first, *(InputSet(*(tuple(map(_copy, part)) for part in first)) for _ in range(number - 1))]
    return [InputSet(tuple(x.requires_grad_() for x in features), upstream) for features, upstream in sets]


def _noise(case: Case, generator: torch.Generator, device: torch.device) -> Tensor:
    """Normal numbers of the shape and layout of the features."""
    channels, height, width = case.shape
    if case.layout == "sliced":
        wide = torch.randn(case.batch, 2 * channels, height, width, generator=generator, device=device)
        return wide.to(case.dtype)[:, :channels]
    x = torch.randn(case.batch, channels, height, width, generator=generator, device=device).to(case.dtype)
    return x if case.layout == "contiguous" else x.contiguous(memory_format=torch.channels_last)


def _features(case: Case, generator: torch.Generator, device: torch.device) -> Tensor:
    """Pre-activations whose groups differ, as those of a layer do; half of them are below zero."""
    features = _noise(case, generator, device)
    centres = torch.randn(case.n_images, case.features, generator=generator, device=device).to(case.dtype)
    sample_rows(features).mul_(0.5).add_(centres[case.ids(device)])  # a view in all layouts
    return features


def _copy(x: Tensor) -> Tensor:
    """A copy that lies in memory as the original does, gaps between samples included."""
    gaps = torch.empty(x.shape[0] * x.stride(0), dtype=x.dtype, device=x.device)
    return gaps.as_strided(x.shape, x.stride()).copy_(x)
