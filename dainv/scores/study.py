"""From what ``dainv score`` is asked for to scores: model, images and transformations are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from dainv.data import ImageData
from dainv.environment import environment
from dainv.errors import UserError
from dainv.models.loading import load_images
from dainv.ranks import Ranks
from dainv.scores.curves import AXES, Axis
from dainv.scores.fingerprint import weights_fingerprint
from dainv.scores.images import SplitImages
from dainv.scores.network import network_for, random_weights_note
from dainv.scores.partial import PartialFile
from dainv.scores.results import NetworkScores
from dainv.scores.scoring import score_network
from dainv.scores.settings import ScoreSettings, load_transform, normalization
from dainv.scores.transforms import Transform


@dataclass(frozen=True)
class Study:
    """Scores of a network, and what they were made from.

    Attributes:
        settings: what was asked for.
        scores: of every transformation.
        transforms: names of the transformations asked for.
        parts: names of those that the first scheme is made of, each alone; empty if not asked for.
        axes: of the curves; empty if not asked for.
        indices: ``(N,)`` which test images were scored.
        class_names: in label order.
        image_shape: (C, H, W).
        provenance: data, model and environment.
    """

    settings: ScoreSettings
    scores: NetworkScores
    transforms: tuple[str, ...]
    parts: tuple[str, ...]
    axes: tuple[Axis, ...]
    indices: np.ndarray
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    provenance: dict[str, Any]

    @property
    def named(self) -> tuple[str, ...]:
        """Transformations that stand in tables: those asked for, and their parts."""
        return (*self.transforms, *self.parts)

    @property
    def by_class(self) -> bool:
        """Whether classes were asked for."""
        return "class" in self.settings.by


def score(
    settings: ScoreSettings,
    *,
    ranks: Ranks | None = None,
    device: torch.device | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Study:
    """Score a network.

    Args:
        settings: what to score.
        ranks: processes that share the work.
        device: where to compute; that of the ranks if not given.
        out: folder where unfinished work is kept.
        progress: a display to report to.
        stop: asked after each batch whether to save and stop; only with ``out``.

    Raises:
        UserError: what a user can mend, in one line.
        Interrupted: stopped; the work so far is in ``out``.
    """
    ranks = ranks or Ranks()
    asked = {name: load_transform(name) for name in settings.transform}
    data = _load(settings, ranks)
    indices = settings.chosen(data)
    model, layers = network_for(
        settings.model,
        data,
        settings.layers,
        weights=settings.weights,
        checkpoint=settings.checkpoint,
        seed=settings.seed,
    )
    scheme = settings.scheme
    alone: dict[str, Transform] = {}
    if "transformation" in settings.by and scheme is not None:
        alone = {name: scheme.alone(name) for name in scheme.transformations()}
    axes = AXES if settings.curves else ()
    interpolation = "bilinear" if scheme is None else scheme.interpolation
    strengths = {name: one for axis in axes for name, one in axis.augmentations(interpolation).items()}
    made_with = {
        "data": data.name,
        "data_sha256": data.fingerprint(),
        "model_sha256": weights_fingerprint(model.state_dict()),
        "image_shape": list(data.image_shape),
    }
    partial = None
    if out is not None:
        about = {**_asked(settings), **made_with, "processes": ranks.size, "torch": torch.__version__}
        partial = PartialFile(out / f"unfinished-{ranks.rank}.npz", about)
    try:
        scores = score_network(
            model,
            SplitImages(data.test, indices),
            layers=layers,
            transforms={**asked, **alone, **strengths},
            repeats=dict.fromkeys([*asked, *alone], settings.repeats)
            | dict.fromkeys(strengths, 2 if settings.variance_ratio else 1),
            labels=data.test.labels[indices].cpu().numpy() if "class" in settings.by else None,
            variances=settings.variance_ratio,
            prepare=normalization(settings.normalize, data.image_shape[0]),
            batch_size=settings.batch_size,
            device=device if device is not None else ranks.device,
            seed=settings.seed,
            progress=progress,
            ranks=ranks,
            partial=partial,
            stop=stop,
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    if note := random_weights_note(settings.model, settings.weights):
        scores.notes.insert(0, note)
    return Study(
        settings=settings,
        scores=scores,
        transforms=settings.transform,
        parts=tuple(alone),
        axes=axes,
        indices=indices.numpy(),
        class_names=data.classes,
        image_shape=data.image_shape,
        provenance={**made_with, "environment": environment()},
    )


def _load(settings: ScoreSettings, ranks: Ranks) -> ImageData:
    """The images; what has to be downloaded is so by one process."""
    if not ranks.is_main:
        ranks.barrier()
    data = load_images(settings.model, settings.data, settings.data_root, settings.image_size)
    if ranks.is_main:
        ranks.barrier()
    return data


def _asked(settings: ScoreSettings) -> dict[str, Any]:
    """All settings but the places of things, which may change while work is unfinished."""
    return {key: value for key, value in asdict(settings).items() if key not in ("model", "data", "data_root")}
