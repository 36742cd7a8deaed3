"""The invariance score of Eq. 2, by streaming sums: no matrix of all pairs, any number of images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dainv.augment import Augmentation
from dainv.taps import Taps, evaluating, match_layers

INPUT = "input"  # the pixels, as a layer


@dataclass(frozen=True)
class InvarianceScores:
    """Invariance scores of a model.

    Attributes:
        sigma: layer -> ``(repeats, N)`` float64 array of Eq. 2. NaN where the layer is the same for all images.
        dimensions: layer -> D, the number of features.
    """

    sigma: Mapping[str, np.ndarray]
    dimensions: Mapping[str, int]

    @property
    def layers(self) -> list[str]:
        """Layer names, the pixels first."""
        return list(self.sigma)


def invariance_scores(
    model: nn.Module,
    images: Tensor | Dataset[Any] | DataLoader[Any],
    *,
    layers: str | Sequence[str],
    transform: Callable[[Tensor], Tensor],
    repeats: int = 5,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> InvarianceScores:
    """Invariance score of every image at every layer (Eq. 2, Figure 1).

    sigma_i = 1 - d(x_i, G(x_i)) / mean_j d(x_i, x_j), with d of Eq. 1 and the mean over all N images, x_i included.
    1 means that the layer does not see the transformation, 0 that a transformed image is as far away as a different
    image is on average; below 0 it is farther. The mean over pairs is taken as the squared distance to the mean
    representation plus the variance around it: two passes over the images, memory O(D + N).

    Args:
        model: any module; it is put in eval mode and back.
        images: ``(N, C, H, W)`` float images in [0, 1], or a Dataset or DataLoader of images or (image, ...) tuples
            that comes in the same order every time.
        layers: pattern or patterns of layer names. The pixels are always scored too, as layer ``"input"``.
        transform: G, from a batch of images to a batch of the same shape, drawn anew for every image and repeat. An
            :class:`~dainv.augment.Augmentation` is drawn by ``seed`` for all images at once, so that the scores do not
            depend on the batch size.
        repeats: number of transformations of each image (paper: 5).
        batch_size: images at a time.
        device: where to compute; the model's device if not given.
        seed: of the transformations.
        progress: a rich progress display to report to.

    Returns:
        Scores and dimensions by layer.

    Raises:
        UserError: no layer matches.
        ValueError: images not float in [0, 1], fewer than 2 images, or a transform that changes the shape.
    """
    if device is None:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
    names = match_layers(model, layers)
    n_images, batches = _batches(images, batch_size)
    if n_images < 2:
        raise ValueError(f"images: expected at least 2 to compare, got {n_images}")
    was_on = next((p.device for p in model.parameters()), torch.device("cpu"))
    task = None if progress is None else progress.add_task("scores", total=n_images * (2 + repeats))

    def advance(n: int) -> None:
        if progress is not None and task is not None:
            progress.advance(task, n)

    taps = Taps(model, names)
    try:
        with evaluating(model.to(device)):

            def features(batch: Tensor) -> dict[str, Tensor]:
                model(batch)
                found = {INPUT: batch, **taps.take()}
                advance(len(batch))
                return {name: _rows(value) for name, value in found.items()}

            means = _mean_features(batches(), features, device)
            scores = _score(batches(), features, means, n_images, transform, repeats, device, seed)
    finally:
        taps.remove()
        model.to(was_on)
    unscored = [name for name, sigma in scores.items() if np.isnan(sigma).all()]
    infinite = [name for name in unscored if not bool(means[name].isfinite().all())]
    constant = [name for name in unscored if name not in infinite]
    if infinite:
        warnings.warn(f"layers with infinite or NaN activations have no score: {', '.join(infinite)}", stacklevel=2)
    if constant:
        warnings.warn(f"layers that are the same for all images have no score: {', '.join(constant)}", stacklevel=2)
    return InvarianceScores(scores, {name: len(mean) for name, mean in means.items()})


def _batches(
    images: Tensor | Dataset[Any] | DataLoader[Any], batch_size: int
) -> tuple[int, Callable[[], Iterator[Tensor]]]:
    """Number of images, and a function that starts over."""
    if isinstance(images, Tensor):
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"images: expected float images of shape (N, C, H, W), got {images.dtype} {tuple(images.shape)}"
            )
        tensor = images
        return len(tensor), lambda: iter(tensor.split(batch_size))
    loader = images if isinstance(images, DataLoader) else DataLoader(images, batch_size=batch_size)

    def start() -> Iterator[Tensor]:
        for batch in loader:
            yield batch[0] if isinstance(batch, (tuple, list)) else batch

    return len(loader.dataset), start  # type: ignore[arg-type]


def _checked(batch: Tensor, device: torch.device | str) -> Tensor:
    low, high = batch.aminmax()
    if low < 0 or high > 1:
        raise ValueError(f"images: expected values in [0, 1], got {low:.3g} to {high:.3g}")
    return _placed(batch, device)


def _placed(batch: Tensor, device: torch.device | str) -> Tensor:
    """Images on the device, channels innermost, the layout in which convolutions are fastest."""
    return batch.to(device).contiguous(memory_format=torch.channels_last)


def _rows(features: Tensor) -> Tensor:
    """``(n, D)`` float32; maps are read channels innermost, as they lie in memory, so that nothing is copied."""
    if features.ndim == 4:
        features = features.permute(0, 2, 3, 1)
    return features.flatten(1).float()


def _mean_features(
    batches: Iterator[Tensor], features: Callable[[Tensor], dict[str, Tensor]], device: torch.device | str
) -> dict[str, Tensor]:
    """First pass: the mean representation of each layer, ``(D,)``."""
    sums: dict[str, Tensor] = {}
    n = 0
    for batch in batches:
        for name, value in features(_checked(batch, device)).items():
            total = value.sum(0).double()
            sums[name] = sums[name].add_(total) if name in sums else total
        n += len(batch)
    return {name: (total / n).float() for name, total in sums.items()}


def _score(
    batches: Iterator[Tensor],
    features: Callable[[Tensor], dict[str, Tensor]],
    means: dict[str, Tensor],
    n_images: int,
    transform: Callable[[Tensor], Tensor],
    repeats: int,
    device: torch.device | str,
    seed: int,
) -> dict[str, np.ndarray]:
    """Second pass: squared distance of each image to the mean and to its transformed selves."""
    drawn = None
    if isinstance(transform, Augmentation):
        generator = torch.Generator().manual_seed(seed)
        drawn = [transform.parameters(n_images, generator) for _ in range(repeats)]
    to_mean = {name: torch.empty(n_images, dtype=torch.float64) for name in means}
    to_transformed = {name: torch.empty(repeats, n_images, dtype=torch.float64) for name in means}
    start = 0
    for batch in batches:
        batch = _placed(batch, device)
        stop = start + len(batch)
        original = features(batch)
        for name, value in original.items():
            to_mean[name][start:stop] = _squared_distances(value, means[name])
        for repeat in range(repeats):
            if drawn is not None and isinstance(transform, Augmentation):
                transformed = transform.apply(batch, drawn[repeat][start:stop].to(device))
            else:
                transformed = transform(batch)
            if transformed.shape != batch.shape:
                raise ValueError(
                    f"transform: expected the shape it was given, {tuple(batch.shape)}, got {tuple(transformed.shape)}"
                )
            for name, value in features(transformed).items():
                to_transformed[name][repeat, start:stop] = _squared_distances(value, original[name])
        start = stop
    scores = {}
    for name in means:
        to_others = to_mean[name] + to_mean[name].mean()  # mean_j |f_i - f_j|^2 = |f_i - m|^2 + mean_j |f_j - m|^2
        scores[name] = (1 - to_transformed[name] / torch.where(to_others > 0, to_others, torch.nan)).numpy()
    return scores


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """``(n,)`` float64 sums over features of the squared differences of rows."""
    return (a - b).square_().sum(1, dtype=torch.float32).to(torch.float64).cpu()
