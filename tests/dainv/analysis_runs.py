"""Run directories for the tests of the analysis: a real network with random weights, made-up losses, no training."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dainv.analysis.arms import kind
from dainv.analysis.dynamics import read_dynamics
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.analysis.scoring import ScoreSource
from dainv.analysis.statistics import resampled_medians
from dainv.data import load_data
from dainv.environment import environment
from dainv.models.loading import model_from_config
from dainv.runs import RunDirectory
from dainv.scores import InvarianceScores
from dainv.settings import TrainSettings

LAYERS = [f"layer{number}" for number in range(1, 10)]
TEST_IMAGES = 30


def make_quick(monkeypatch: pytest.MonkeyPatch, *, pictures: bool = False) -> None:
    """Few resamples, and no pictures, which take most of the time."""
    few = partial(resampled_medians, resamples=50)
    monkeypatch.setattr(sys.modules["dainv.analysis.results"], "resampled_medians", few)
    for name in () if pictures else ("scores_figure", "dynamics_figure"):
        monkeypatch.setattr(sys.modules["dainv.analysis.outputs"], name, lambda *_: b"<svg/>")


def make_two_runs(folder: Path, seed: int = 0) -> Path:
    """A baseline, ``base``, and a run with the objective, ``inv``, of a seed of its own if wanted."""
    data = save_data(folder / "data.npz")
    make_run(folder / "base", data, alpha=0.0)
    make_run(folder / "inv", data, alpha=0.1, seed=seed)
    return folder


def save_data(path: Path, seed: int = 0) -> Path:
    """Coloured blobs, 8 x 8 pixels, three classes in order, as an .npz file."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, size=(TEST_IMAGES + 12, 4, 4, 3))
    images = coarse.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
    labels = np.sort(rng.integers(0, 3, size=len(images)))
    labels[[0, -1]] = 0, 2
    labels[TEST_IMAGES] = 0  # data to train on are not of one class
    np.savez(
        path,
        x_train=images[TEST_IMAGES:],
        y_train=labels[TEST_IMAGES:],
        x_test=images[:TEST_IMAGES],
        y_test=labels[:TEST_IMAGES],
        classes=np.array(["a", "b", "c"]),
    )
    return path


def records(epochs: int, layers: list[str] = LAYERS, accuracy: float = 0.9) -> list[dict[str, Any]]:
    """Metrics of epochs 0 to ``epochs``: every layer's loss starts at 0.8 and moves its own way."""
    rng = np.random.default_rng(1)
    found = []
    for epoch in range(epochs + 1):
        share = (epoch / max(1, epochs)) ** 0.5
        losses = [0.8 - 0.08 * (place - 2) * share + 0.01 * rng.random() for place in range(len(layers))]
        found.append(
            {
                "epoch": epoch,
                "step": 2 * epoch,
                "learning_rate": 0.01,
                "train": {
                    "loss": 1.0,
                    "task": 1.0,
                    "accuracy": 0.5,
                    "invariance": dict(zip(layers, losses, strict=True)),
                },
                "control": {"invariance": {layer: 1.05 * loss for layer, loss in zip(layers, losses, strict=True)}},
                "test": {"loss": 0.4321, "accuracy": accuracy},
                "images_per_second": None,
                "seconds": 0.0,
            }
        )
    return found


def make_run(
    path: Path, data: Path, *, alpha: float = 0.1, epochs: int = 3, seed: int = 0, accuracy: float = 0.9
) -> RunDirectory:
    """A run directory as training leaves it."""
    images = load_data(str(data))
    model = {"name": "allcnn", "n_classes": 3, "in_channels": 3, "batch_norm": True, "width": 0.05}
    config = {
        "settings": asdict(
            TrainSettings(data=str(data), alpha=alpha, epochs=max(1, epochs), seed=seed, width=0.05, batch_norm=True)
        ),
        "model": model,
        "data": {
            "name": images.name,
            "classes": ["a", "b", "c"],
            "image_shape": [3, 8, 8],
            "n_train": 12,
            "n_test": TEST_IMAGES,
            "sha256": images.fingerprint(),
        },
        "layers": LAYERS,
        "weights": [alpha / 9] * 9,
    }
    run = RunDirectory.create(path, config, environment())
    for record in records(epochs, accuracy=accuracy):
        run.append_metrics(record)
    torch.manual_seed(seed)
    run.save_checkpoint({"step": 2 * epochs, "model": model_from_config({"model": model}).state_dict()})
    return run


def analyzed_run(
    folder: Path,
    name: str = "run",
    *,
    alpha: float = 0.1,
    sigma: dict[str, np.ndarray] | None = None,
    epochs: int = 3,
    accuracy: float = 0.9,
    data_sha256: str = "0" * 64,
    label: str | None = None,
    seed: int = 0,
) -> AnalyzedRun:
    """A run with made-up scores, ``(2, 40)`` a layer, that were never computed."""
    data = folder / "data.npz"
    run = make_run(
        folder / name,
        data if data.exists() else save_data(data),
        alpha=alpha,
        epochs=epochs,
        accuracy=accuracy,
        seed=seed,
    )
    if sigma is None:
        rng = np.random.default_rng(0)
        sigma = {layer: 0.4 + 0.2 * rng.normal(size=(2, 40)) for layer in ("input", *LAYERS)}
    return AnalyzedRun(
        run=run,
        label=label or kind(run.config),
        config=run.config,
        environment=run.environment,
        record=run.metrics()[-1],
        data="data",
        available=TEST_IMAGES,
        scores=InvarianceScores(sigma, dict.fromkeys(sigma, 123)),
        source=ScoreSource("0", 2 * epochs, "1" * 64, data_sha256, "half-extremes", 2, 40, 0),
        dynamics=read_dynamics(run, LAYERS),
    )


def arms_of(*runs: AnalyzedRun) -> list[Arm]:
    """An arm a run."""
    return [Arm(run.label, (run,)) for run in runs]


def levels(*medians: float, spread: float = 0.05, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Scores, ``(2, 40)`` a layer, evenly spread around the medians of the pixels and the nine layers."""
    around = np.linspace(-spread, spread, 40)
    return {
        layer: np.stack([level + shift + around] * 2) for layer, level in zip(["input", *LAYERS], medians, strict=True)
    }
