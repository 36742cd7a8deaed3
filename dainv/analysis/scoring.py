"""Scores of a run: made from its newest checkpoint, or taken from an earlier analysis of the same one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from dainv._version import __version__
from dainv.augment import augmentation
from dainv.data import ImageData, load_again
from dainv.errors import UserError
from dainv.models.loading import model_from_config
from dainv.runs import SCORES, RunDirectory, write_atomically
from dainv.scores import INPUT, InvarianceScores, SplitImages, score_network, weights_fingerprint
from dainv.scores.sampling import Sampling

_SOURCE = "source"  # the array of scores.npz that is no layer: a JSON text


@dataclass(frozen=True, kw_only=True)
class ScoringPlan(Sampling):
    """How runs are scored: over what, and by which G of Eq. 2.

    Attributes:
        transform: name of the augmentation scheme that is G.

    Raises:
        UserError: a number outside its range, or no scheme of that name.
    """

    transform: str = "half-extremes"

    def __post_init__(self) -> None:
        """Reject what cannot be scored."""
        super().__post_init__()
        augmentation(self.transform)


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


@dataclass(frozen=True)
class Scorer:
    """Scores run after run by one plan, and loads each data set once.

    Attributes:
        plan: how to score.
        data: what to score on; the data of each run if not given.
        data_root: where downloads go; where those of the run went if not given.
        device: where to compute; the CPU if not given.
        progress: a display to report to.
        warnings: is told what makes a result doubtful.
        notes: is told what is good to know.
    """

    plan: ScoringPlan
    data: str | None
    data_root: str | Path | None
    device: torch.device | str | None
    progress: Progress | None
    warnings: list[str]
    notes: list[str]
    _loaded: dict[tuple[str, str, int | None], tuple[ImageData, str]] = field(default_factory=dict)

    def score(self, run: RunDirectory, config: dict[str, Any]) -> tuple[ImageData, InvarianceScores, ScoreSource]:
        """Scores of a run's checkpoint, kept in its analysis folder, and the data that they are of.

        Raises:
            UserError: no readable checkpoint, data that cannot be loaded or do not fit the model, or a file that cannot
                be written.
        """
        data, sha256 = self._data_of(run, config)
        state = run.load_checkpoint(
            warn=lambda _: self.warnings.append(
                f"{run.name}: the newest checkpoint is damaged; an earlier one was scored"
            )
        )
        model = model_from_config(config)
        try:
            model.load_state_dict(state["model"])
        except RuntimeError:
            raise UserError(f"{run.path}: the checkpoint does not fit its config.json") from None
        plan, chosen = self.plan, self.plan.chosen(data)
        source = ScoreSource(
            version=__version__,
            step=int(state["step"]),
            model_sha256=weights_fingerprint(state["model"]),
            data_sha256=sha256,
            transform=plan.transform,
            repeats=plan.repeats,
            images=len(chosen),
            seed=plan.seed,
        )
        path = run.analysis_path(SCORES)
        stored = _load(path, config["layers"])
        if stored is not None and stored[1] == source:
            self.notes.append(f"{run.name}: scores of step {source.step} taken from the earlier analysis")
            return data, *stored
        scores = score_network(
            model,
            SplitImages(data.test, chosen),
            layers=config["layers"],
            transforms={plan.transform: augmentation(plan.transform)},
            repeats=plan.repeats,
            batch_size=plan.batch_size,
            device=self.device,
            seed=plan.seed,
            progress=self.progress,
        ).scores(plan.transform)
        _save(path, scores, source)
        return data, scores, source

    def _data_of(self, run: RunDirectory, config: dict[str, Any]) -> tuple[ImageData, str]:
        """The data to score a run on, and their fingerprint."""
        settings, trained = config["settings"], config["data"]
        source = self.data or settings["data"]
        key = (source, str(self.data_root or settings["data_root"]), settings["image_size"])
        if key not in self._loaded:
            try:
                loaded = load_again(settings, source, key[1])
            except UserError as error:
                hint = "" if self.data is not None else f" (the data of {run.path}; --data says where it is now)"
                raise UserError(f"{error}{hint}") from None
            self._loaded[key] = loaded, loaded.fingerprint()
        data, sha256 = self._loaded[key]
        channels = config["model"]["in_channels"]
        if data.image_shape[0] != channels:
            raise UserError(
                f"{data.name} has images of {data.image_shape[0]} channels; {run.name} was trained on {channels}"
            )
        if sha256 != trained["sha256"]:
            self.warnings.append(
                f"{run.name} was scored on other data ({data.name}, sha256 {sha256[:12]}…) than it was trained and "
                f"tested with ({trained['name']}, sha256 {trained['sha256'][:12]}…)"
            )
        return data, sha256


def _save(path: Path, scores: InvarianceScores, source: ScoreSource) -> None:
    about = {"source": asdict(source), "dimensions": dict(scores.dimensions), "unscored": dict(scores.unscored)}
    arrays: dict[str, Any] = {**scores.sigma, _SOURCE: np.array(json.dumps(about))}
    write_atomically(path, lambda file: np.savez(file, **arrays))


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
    return InvarianceScores(sigma, dimensions, about.get("unscored", {})), source
