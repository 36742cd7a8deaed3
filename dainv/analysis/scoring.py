"""Scores of a run: made from its newest checkpoint, or taken from an earlier analysis of the same one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from dainv._version import __version__
from dainv.augment import augmentation
from dainv.data import ImageData, choose_images
from dainv.errors import UserError
from dainv.models.loading import model_from_config
from dainv.runs import SCORES, RunDirectory, write_atomically
from dainv.scores import INPUT, NOT_FINITE, InvarianceScores, SplitImages, score_network, weights_fingerprint

_SOURCE = "source"  # the array of scores.npz that is no layer: a JSON text


@dataclass(frozen=True)
class ScoringPlan:
    """How to score.

    Attributes:
        transform: name of the augmentation scheme that is G of Eq. 2.
        repeats: transformations of each image.
        images: number of test images, drawn by the seed; all if not given.
        batch_size: images at a time.
        device: where to compute; the CPU if not given.
        seed: of the transformations and of the choice of images.
    """

    transform: str
    repeats: int
    images: int | None
    batch_size: int
    device: torch.device | str | None
    seed: int

    def __post_init__(self) -> None:
        """Reject what cannot be scored.

        Raises:
            UserError: a value outside its range.
        """
        augmentation(self.transform)
        for name, value, least in (
            ("repeats", self.repeats, 1),
            ("images", 2 if self.images is None else self.images, 2),
            ("batch-size", self.batch_size, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise UserError(f"--{name}: expected at least {least}, got {value}")

    def images_of(self, data: ImageData) -> SplitImages:
        """The test images to score.

        Raises:
            UserError: fewer images than asked for, or than a score needs.
        """
        if len(data.test) < 2:
            raise UserError(f"{data.name} has {len(data.test)} test image; a score compares at least 2")
        return SplitImages(data.test, choose_images(data, self.images, self.seed))


@dataclass(frozen=True)
class ScoreSource:
    """What scores were made from: equal sources give equal scores."""

    version: str
    step: int
    model_sha256: str
    data_sha256: str
    transform: str
    repeats: int
    images: int
    seed: int


def scores_of(
    run: RunDirectory,
    config: dict[str, Any],
    data: ImageData,
    data_sha256: str,
    plan: ScoringPlan,
    *,
    progress: Progress | None,
    warn: Callable[[str], None],
    note: Callable[[str], None],
) -> tuple[InvarianceScores, ScoreSource]:
    """Scores of a run's newest checkpoint, kept in the run's analysis folder.

    Args:
        run: the run.
        config: its configuration.
        data: the data to score on.
        data_sha256: its fingerprint.
        plan: how to score.
        progress: a display to report to.
        warn: told what makes a result doubtful.
        note: told what is good to know.

    Raises:
        UserError: no readable checkpoint, data that do not fit the model, or a file that cannot be written.
    """
    state = run.load_checkpoint(
        warn=lambda _: warn(f"{run.name}: the newest checkpoint is damaged; an earlier one was scored")
    )
    model = model_from_config(config)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError:
        raise UserError(f"{run.path}: the checkpoint does not fit its config.json") from None
    channels = config["model"]["in_channels"]
    if data.image_shape[0] != channels:
        raise UserError(
            f"{data.name} has images of {data.image_shape[0]} channels; {run.name} was trained on {channels}"
        )
    images = plan.images_of(data)
    source = ScoreSource(
        version=__version__,
        step=int(state["step"]),
        model_sha256=weights_fingerprint(state["model"]),
        data_sha256=data_sha256,
        transform=plan.transform,
        repeats=plan.repeats,
        images=len(images),
        seed=plan.seed,
    )
    path = run.analysis_path(SCORES)
    stored = _load(path, config["layers"])
    if stored is not None and stored[1] == source:
        note(f"{run.name}: scores of step {source.step} taken from the earlier analysis")
        return stored
    found = score_network(
        model,
        images,
        layers=config["layers"],
        transforms={plan.transform: augmentation(plan.transform)},
        repeats=plan.repeats,
        batch_size=plan.batch_size,
        device=plan.device,
        seed=plan.seed,
        progress=progress,
    )
    scores = found.scores(plan.transform)
    for layer, reason in found.unscored.items():
        if reason == NOT_FINITE:  # constant layers are shown in the results instead
            warn(f"{run.name}: {layer} has no score: {reason}")
    text = json.dumps({"source": asdict(source), "dimensions": dict(scores.dimensions)})
    arrays: dict[str, Any] = {**scores.sigma, _SOURCE: np.array(text)}
    write_atomically(path, lambda file: np.savez(file, **arrays))
    return scores, source


def _load(path: Path, layers: list[str]) -> tuple[InvarianceScores, ScoreSource] | None:
    """Scores from a file; None where there is none of use, whatever the reason: they are then made anew."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive[_SOURCE]))
            source = ScoreSource(**about["source"])
            sigma = {layer: archive[layer] for layer in (INPUT, *layers)}
        dimensions = {layer: int(about["dimensions"][layer]) for layer in sigma}
    except Exception:  # a damaged zip file raises half a dozen kinds
        return None
    if any(scores.shape != (source.repeats, source.images) for scores in sigma.values()):
        return None
    return InvarianceScores(sigma, dimensions), source
