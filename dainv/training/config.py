"""What ``config.json`` holds: a run, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from dainv.data import ImageData
from dainv.settings import TrainSettings


def run_config(
    settings: TrainSettings,
    data: ImageData,
    model: dict[str, Any],
    *,
    weights: Mapping[str, float],
    backend: str,
    device: torch.device,
    processes: int,
) -> dict[str, Any]:
    """Every setting, and what data, model, device and backend turned out to be; see docs/run-directory.md.

    Args:
        settings: as they were asked for.
        data: the images.
        model: what :func:`dainv.models.loading.describe_model` says of the network.
        weights: layer name -> alpha^(l) of Eq. 4, for alpha as it was asked for.
        backend: of the operator.
        device: that computes.
        processes: among which batches are shared out.
    """
    return {
        "settings": asdict(settings),
        "model": model,
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "image_shape": list(data.image_shape),
            "n_train": len(data.train),
            "n_test": len(data.test),
            "sha256": data.fingerprint(),
        },
        "layers": list(weights),
        "weights": list(weights.values()),
        "backend": backend,
        "device": str(device),
        "processes": processes,
        "steps_per_epoch": settings.steps_per_epoch(len(data.train)),
        "total_steps": settings.total_steps(len(data.train)),
    }
