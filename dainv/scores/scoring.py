"""Scores of a network: the two functions that users call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dainv.ranks import Ranks
from dainv.scores.engine import Engine, Work
from dainv.scores.images import SplitImages, image_source
from dainv.scores.listening import listening
from dainv.scores.partial import PartialFile
from dainv.scores.results import InvarianceScores, NetworkScores, by_reason
from dainv.scores.transforms import Transform, Transformation

Images = Tensor | Dataset[Any] | DataLoader[Any] | SplitImages


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
        batch_size: images at a time; fewer where the activations of that many would take more than 1 GiB.
        device: where to compute; the model's device if not given.
        seed: of the transformations.
        progress: a rich progress display to report to.

    Returns:
        Scores and dimensions by layer.

    Raises:
        UserError: no layer matches, a layer puts out what cannot be scored, or the model does not accept the images.
        ValueError: images not float in [0, 1], fewer than 2 images, or a transform that changes shape or dtype.

    Example:
        >>> import torch, dainv
        >>> images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> scores = dainv.invariance_scores(
        ...     dainv.AllCNNC(width=0.1), images, layers="layer9", transform=lambda batch: batch.flip(3), repeats=1
        ... )
        >>> scores.layers, scores.sigma["layer9"].shape
        (['input', 'layer9'], (1, 8))
    """
    found = score_network(
        model,
        images,
        layers=layers,
        transforms={"transform": transform},
        repeats=repeats,
        batch_size=batch_size,
        device=device,
        seed=seed,
        progress=progress,
    )
    missing = [f"{why}, hence without a score: {', '.join(of)}" for why, of in by_reason(found.unscored).items()]
    for note in (*missing, *found.notes):
        warnings.warn(note, stacklevel=2)
    return found.scores("transform")


def score_network(
    model: nn.Module,
    images: Images,
    *,
    layers: str | Sequence[str],
    transforms: Mapping[str, Transform],
    repeats: int | Mapping[str, int] = 5,
    labels: Tensor | np.ndarray | Sequence[int] | None = None,
    variances: bool = False,
    prepare: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    partial: PartialFile | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> NetworkScores:
    """Scores of several transformations in one go: the images themselves go through the model twice in all.

    N images, T transformations of R repeats each cost (2 + T R) N forward passes. docs/scores.md defines the measures.

    Args:
        model: any module; it is put in eval mode and back.
        images: as for :func:`invariance_scores`, or :class:`~dainv.scores.SplitImages`.
        layers: pattern or patterns of layer names; the pixels are layer ``"input"``.
        transforms: name -> transformation of a batch. An Augmentation is drawn for all images at once. Any other
            callable may use torch's, NumPy's or Python's global generator, which are seeded for each batch and repeat.
        repeats: transformations of each image, one number for all or one for each name.
        labels: ``(N,)`` classes, for class-wise invariance; the images are then read class by class.
        variances: also take variance ratios, which costs another two or three passes over the activations.
        prepare: from a batch in [0, 1] to what the model expects, such as a normalisation.
        batch_size: images at a time; fewer where the activations of that many would take more than 1 GiB.
        device: where to compute; the model's device if not given.
        seed: of the transformations.
        progress: a rich progress display to report to.
        ranks: processes that share the work, each with the same arguments; all of them get the result.
        partial: where unfinished work is kept, and taken up again.
        stop: asked after each batch whether to save and stop; only with ``partial``.

    Raises:
        UserError: no layer matches, a layer puts out what cannot be scored, the model does not accept the images, or
            unfinished work was done with other settings.
        ValueError: as for :func:`invariance_scores`, or labels that do not go with the images.
        Interrupted: stopped; what was done is saved.
    """
    if not transforms:
        raise ValueError("transforms: expected at least one")
    for name, transform in transforms.items():
        if not callable(transform):
            raise ValueError(
                f"{name}: expected a callable from images to images, such as dainv.augmentation('half-extremes'), "
                f"got {transform!r}"
            )
    counts: dict[str, int] = {}
    least = 2 if variances else 1
    for name in transforms:
        count = repeats.get(name) if isinstance(repeats, Mapping) else repeats
        if not isinstance(count, Integral):
            raise ValueError(f"repeats: expected a whole number, got {count!r} for {name}")
        if count < least:
            what = "a variance over them needs" if variances else "expected"
            raise ValueError(f"repeats: {what} at least {least}, got {count} for {name}")
        counts[name] = int(count)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    classes, order, known = None, None, None
    if labels is not None:
        known = np.asarray(labels)
        if known.ndim != 1 or not np.issubdtype(known.dtype, np.integer):
            raise ValueError(f"labels: expected one integer for each image, got {known.dtype} {known.shape}")
        numbers = torch.from_numpy(np.unique(known, return_inverse=True)[1])
        classes, order = numbers.sort(stable=True)
    source = image_source(images, order)
    if known is not None and len(known) != len(source):
        raise ValueError(f"labels: expected one for each of {len(source)} images, got {len(known)}")
    work = Work(
        source=source,
        order=torch.arange(len(source)) if order is None else order,
        classes=classes,
        transformations=[Transformation(name, transforms[name], count) for name, count in counts.items()],
        batch_size=batch_size,
        seed=seed,
        variances=variances,
    )
    with listening(model, layers, device, prepare) as listener:
        return NetworkScores(Engine(work, listener, ranks or Ranks(), partial, progress, stop).run(), known)
