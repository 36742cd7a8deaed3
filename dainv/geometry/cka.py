"""Linear centred kernel alignment between layers, from one pass over the images in small batches.

CKA compares two layers by the inner products between images that they give (Kornblith et al. 2019, "Similarity of
Neural Network Representations Revisited"). Its form over features needs D x D numbers and that over images N x N;
neither fits a convolutional layer and a data set. An unbiased estimate of HSIC can be averaged over small batches
instead (Nguyen, Raghu & Kornblith 2021, "Do Wide and Deep Networks Learn the Same Things?").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from dainv.errors import UserError
from dainv.image_checks import check_images
from dainv.scores.listening import Prepare, listening
from dainv.scores.sums import in_float32, rounding

SMALLEST_BATCH = 4  # the unbiased estimate of HSIC divides by n - 3


@dataclass(frozen=True)
class CKA:
    """Similarity of layers.

    Attributes:
        rows: names of the layers of the one network, in the order in which they run.
        columns: of the other, or the same again.
        values: ``(rows, columns)`` float64: 1 where two layers agree up to rotation, scale and offset, about 0 where
            they have nothing in common. An unbiased estimate may fall slightly below 0; NaN where a layer is constant.
        n_images: N.
        n_batches: that the estimate was averaged over.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    n_images: int
    n_batches: int


def linear_cka(
    model: nn.Module,
    images: Tensor,
    *,
    layers: str | Sequence[str],
    other: nn.Module | None = None,
    other_layers: str | Sequence[str] | None = None,
    prepare: Prepare | None = None,
    batch_size: int = 128,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CKA:
    """Linear CKA between the layers of a network, or between those of two.

    Per batch of n images and layer, n^2 D multiplications and n^2 numbers kept; activations are dropped at once. The
    expected HSIC does not depend on n; a larger n makes the ratio less noisy.

    Args:
        model: any module; it is put in eval mode and back.
        images: ``(N, C, H, W)`` float, in [0, 1].
        layers: pattern or patterns of layer names.
        other: a second network; the first is compared with itself if not given.
        other_layers: of the second network; the same patterns if not given.
        prepare: from images in [0, 1] to what the models expect, such as a normalisation.
        batch_size: least number of images at a time, at least 4; the rest is spread over the batches.
        device: where to compute; each model's device if not given.
        seed: of the division into batches.
        progress: a display to report to.

    Raises:
        UserError: fewer than 4 images, no layer matches, or a model does not take such images.
        ValueError: images not float in [0, 1].
    """
    if batch_size < SMALLEST_BATCH:
        raise UserError(f"batch_size: expected at least {SMALLEST_BATCH}, got {batch_size}")
    check_images(images)
    if len(images) < SMALLEST_BATCH:
        raise UserError(f"images: linear CKA compares at least {SMALLEST_BATCH}, got {len(images)}")
    batches = list(_batches(len(images), batch_size, seed))
    task = None if progress is None else progress.add_task("similarity", total=len(images))
    with ExitStack() as stack:
        one = two = stack.enter_context(listening(model, layers, device, prepare))
        one.probe(images[:2])
        if other is not None:
            others = layers if other_layers is None else other_layers
            two = stack.enter_context(listening(other, others, device, prepare))
            two.probe(images[:2])
        names, other_names = one.layers, two.layers
        between = np.zeros((len(names), len(other_names)))
        within, other_within = np.zeros(len(names)), np.zeros(len(other_names))
        for chosen in batches:
            batch, pairs = images[chosen], len(chosen) * (len(chosen) - 3)
            grams = _stacked(one.run(batch, _u_centred), names)
            other_grams = grams if other is None else _stacked(two.run(batch, _u_centred), other_names)
            between += grams @ other_grams.T / pairs
            within += (grams**2).sum(1) / pairs
            other_within += (other_grams**2).sum(1) / pairs
            if progress is not None and task is not None:
                progress.advance(task, len(chosen))
    scale = np.sqrt(np.outer(within, other_within))
    values = np.divide(between, scale, out=np.full_like(between, np.nan), where=scale > 0)
    return CKA(tuple(names), tuple(other_names), values, len(images), len(batches))


def _batches(n_images: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Indices in random order, for data are often sorted by class; no batch is smaller than asked for."""
    order = torch.randperm(n_images, generator=torch.Generator().manual_seed(seed))
    yield from order.tensor_split(max(1, n_images // batch_size))


def _u_centred(_layer: str, features: Tensor) -> Tensor:
    """U-centred inner products of features ``(n, D)``, ``(n, n)`` float64 with a zero diagonal.

    n (n - 3) HSIC_1 of two layers (Song et al. 2012) is the sum over the products of their U-centred matrices (Székely
    & Rizzo 2014), so this matrix is all that is needed of a layer. An offset of all features cancels; it is taken away
    first, for the sake of the digits.
    """
    n = len(features)
    one = rounding(features.dtype)
    features = in_float32(features)
    deviations = features - features.mean(0)
    if float(deviations.norm()) <= one * float(features.norm()):
        deviations.zero_()  # what is left by rounding of a layer that is the same for all
    gram = (deviations @ deviations.T).double().fill_diagonal_(0)
    means = gram.sum(1) / (n - 2)
    gram -= means[:, None] + means[None, :] - gram.sum() / ((n - 1) * (n - 2))
    return gram.fill_diagonal_(0)


def _stacked(grams: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
    return torch.stack([grams[name].flatten() for name in names]).cpu().numpy()
