"""Which runs a reproduction is made of: two arms a seed, and short runs for what the paper leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dainv.errors import UserError
from dainv.reproduction.published import ARMS, BASELINE
from dainv.settings import TrainSettings

RECIPE = "recipe"  # the variant that changes nothing
VARIANTS: dict[str, dict[str, Any]] = {
    "batch-norm": {"batch_norm": True},
    "no-batch-norm": {"batch_norm": False},
    "nearest": {"interpolation": "nearest"},
    "bilinear": {"interpolation": "bilinear"},
    "printed": {"normalization": "printed"},
    "pairs": {"normalization": "pairs"},
    "light": {"augmentation": "light"},
}
_OF_THE_PLAN = {
    "seed": "use --seeds",
    "epochs": "use --budget",
    "steps": "use --budget",
    "model": "the published figures are of All-CNN-C",
    "layers": "the published figures are of all nine layers",
}


@dataclass(frozen=True)
class PlannedRun:
    """A run to be made.

    Attributes:
        arm: ``"baseline"`` or ``"invariance"``.
        variant: what is changed, or ``"recipe"``.
        settings: all of it.
        folder: its run directory, relative to that of the reproduction.
    """

    arm: str
    variant: str
    settings: TrainSettings
    folder: str


@dataclass(frozen=True)
class PlannedRuns:
    """All runs.

    Attributes:
        main: both arms of every seed.
        variants: both arms of every variant and seed; empty where none was asked for.
    """

    main: tuple[PlannedRun, ...]
    variants: tuple[PlannedRun, ...]


def plan_runs(
    training: Mapping[str, Any],
    seeds: Sequence[int],
    epochs: int,
    variants: Sequence[str] = (),
    variant_epochs: int = 11,
) -> PlannedRuns:
    """The runs, arm by arm for each seed.

    Args:
        training: settings that differ from the published recipe, by their names in ``TrainSettings``.
        seeds: of the runs; both arms of a seed begin from the same weights and see the same images.
        epochs: of each run; the milestones scale along.
        variants: names of ``VARIANTS``, or several of them joined by ``+``.
        variant_epochs: of each run of a variant, without milestones, as the published run has none so early.

    Raises:
        UserError: a setting that the plan decides, an unknown variant, or settings that cannot be trained.
    """
    for name in training:
        if name in _OF_THE_PLAN:
            raise UserError(f"--{name}: {_OF_THE_PLAN[name]}")
    if len(set(seeds)) != len(seeds) or not seeds:
        raise UserError(f"--seeds: expected different seeds, got {', '.join(map(str, seeds)) or 'none'}")
    recipe = TrainSettings(**{**training, "epochs": epochs})
    if not recipe.alpha > 0:
        raise UserError(f"--alpha: the invariance arm needs a share above 0, got {recipe.alpha}")
    short = replace(recipe, epochs=variant_epochs, milestones=())
    changed = {RECIPE: short, **{name: replace(short, **_changes(name)) for name in variants}} if variants else {}
    return PlannedRuns(
        main=tuple(_run(arm, RECIPE, recipe, seed, "") for seed in seeds for arm in ARMS),
        variants=tuple(
            _run(arm, name, settings, seed, f"variants/{name}-")
            for name, settings in changed.items()
            for seed in seeds
            for arm in ARMS
        ),
    )


def _changes(variant: str) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for part in variant.split("+"):
        if part not in VARIANTS:
            raise UserError(f"--variants: there is no {part!r}; there are {', '.join(VARIANTS)}, joined by +")
        changes |= VARIANTS[part]
    return changes


def _run(arm: str, variant: str, settings: TrainSettings, seed: int, prefix: str) -> PlannedRun:
    own = replace(settings, seed=seed)
    if arm == BASELINE:
        own = replace(own, alpha=0.0, alpha_schedule="")
    return PlannedRun(arm, variant, own, f"{prefix}{arm}-seed{seed}")
