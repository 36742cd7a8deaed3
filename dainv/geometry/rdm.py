"""Representational dissimilarity matrices: Eq. 1 between every two of some images, at every layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from dainv.errors import UserError
from dainv.image_checks import check_images
from dainv.runs import write_atomically
from dainv.scores.listening import Listener, Prepare, listening
from dainv_kernels import pairwise_mse

MEASURE = "mean squared difference"
_FEATURE_BYTES = 1 << 30  # of the layers that are held at a time


@dataclass(frozen=True)
class RDMs:
    """Dissimilarities of images, layer by layer.

    Attributes:
        layers: L names, the pixels first, as ``"input"``.
        dissimilarities: ``(L, N (N - 1) / 2)`` float32 of Eq. 1, pairs in the order of
            ``scipy.spatial.distance.squareform``: (0, 1), (0, 2), ..., (1, 2), ...
    """

    layers: tuple[str, ...]
    dissimilarities: np.ndarray

    def save(self, path: Path, images: Sequence[int], labels: Sequence[int], about: dict[str, Any]) -> None:
        """Write an .npz file that needs no pickle; docs/geometry.md names its arrays.

        Args:
            path: the file.
            images: ``(N,)`` indices.
            labels: ``(N,)`` class labels.
            about: where the numbers are from; kept as JSON.

        Raises:
            UserError: the file cannot be written.
        """
        arrays: dict[str, Any] = {
            "dissimilarities": self.dissimilarities,
            "dissimilarity_measure": np.array(MEASURE),
            "layer": np.array(self.layers),
            "image": np.asarray(images, dtype=np.int64),
            "label": np.asarray(labels, dtype=np.int64),
            "about": np.array(json.dumps(about)),
        }
        write_atomically(path, lambda file: np.savez(file, **arrays))


def rdms(
    model: nn.Module,
    images: Tensor,
    *,
    layers: str | Sequence[str],
    prepare: Prepare | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> RDMs:
    """Mean squared difference between the activations of every two images (Eq. 1) at every layer.

    Distances are taken from differences (:func:`dainv_kernels.pairwise_mse`), so a large mean costs no digits. All
    activations of a layer are held at once, 4 N D bytes; layers are taken in as many passes as keep them within 1 GiB,
    or one at a time where a single one is larger.

    Args:
        model: any module; it is put in eval mode and back.
        images: ``(N, C, H, W)`` float, in [0, 1].
        layers: pattern or patterns of layer names. The pixels are added, as layer ``"input"``.
        prepare: from images in [0, 1] to what the model expects, such as a normalisation.
        batch_size: images at a time; does not change the result.
        device: where to compute; the model's device if not given.
        progress: a display to report to.

    Raises:
        UserError: fewer than 2 images, no layer matches, or the model does not take such images.
        ValueError: images not float in [0, 1].
    """
    check_images(images)
    if len(images) < 2:
        raise UserError(f"images: expected at least 2 to compare, got {len(images)}")
    found: dict[str, np.ndarray] = {}
    with listening(model, layers, device, prepare) as listener:
        listener.probe(images[:2])
        dimensions = listener.dimensions
        task = None if progress is None else progress.add_task("distances", total=len(dimensions))
        for part in _passes(dimensions, len(images)):
            kept = _activations(listener, images.split(batch_size), part)
            for name in part:
                found[name] = _distances(torch.cat(kept.pop(name)).to(listener.device))
                if progress is not None and task is not None:
                    progress.advance(task)
    return RDMs(tuple(dimensions), np.stack([found[name] for name in dimensions]))


def _activations(listener: Listener, batches: Sequence[Tensor], layers: Sequence[str]) -> dict[str, list[Tensor]]:
    """Layer -> its activations of each batch, float32, in main memory."""
    kept: dict[str, list[Tensor]] = {name: [] for name in layers}
    for batch in batches:
        found = listener.run(batch, lambda name, rows: rows.float() if name in kept else rows.new_empty(0))
        for name in layers:
            kept[name].append(found[name].cpu())
    return kept


def _passes(dimensions: dict[str, int], n_images: int) -> Iterator[list[str]]:
    """Layers in order, in groups whose activations fit into memory together."""
    part: list[str] = []
    held = 0
    for name, dimension in dimensions.items():
        needed = 4 * n_images * dimension
        if part and held + needed > _FEATURE_BYTES:
            yield part
            part, held = [], 0
        part.append(name)
        held += needed
    yield part


def _distances(features: Tensor) -> np.ndarray:
    """The upper triangle of Eq. 1, row by row."""
    matrix = pairwise_mse(features)
    above = torch.triu_indices(len(matrix), len(matrix), 1, device=matrix.device)
    return matrix[above[0], above[1]].float().cpu().numpy()
