"""Which runs are the same experiment with another seed, and what each is called."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dainv.settings import RESUMABLE, TrainSettings

BASELINE = "baseline"
INVARIANCE = "data augmentation invariance"
_MAY_BE_A_PATH = ("model", "weights")
_NOT_THE_EXPERIMENT = {"seed", *RESUMABLE}  # RESUMABLE: where things are and how often to save


def kind(config: Mapping[str, Any]) -> str:
    """The paper's name for a run."""
    return INVARIANCE if config["settings"]["alpha"] else BASELINE


def the(label: str) -> str:
    """A label within a sentence."""
    return f"the {label}" if label == BASELINE else label


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as a file has them; one that is younger than the run had its default."""
    settings: dict[str, Any] = json.loads(json.dumps({**asdict(TrainSettings()), **config["settings"]}))
    return settings


def changed_settings(config: Mapping[str, Any], but_for: Collection[str]) -> dict[str, Any]:
    """The settings of a run that differ from the published run's, but for some."""
    published = settings_of({"settings": {}})
    return {
        name: value
        for name, value in settings_of(config).items()
        if name in published and name not in but_for and value != published[name]
    }


def experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make a run what it is: all but its seed, its paths and how often it saves."""
    return {name: value for name, value in settings_of(config).items() if name not in _NOT_THE_EXPERIMENT}


def shown(setting: str, value: object) -> str:
    """A setting as text. Where it can be a path of the machine, only the last part: a report should name no more."""
    text = str(value)
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if setting in _MAY_BE_A_PATH else text


def group(configs: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Indices of the runs of each arm: same experiment, data, model and layers. Arms and runs keep their order."""
    arms: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        identity = [experiment(config), config["model"], config["data"]["sha256"], config["layers"]]
        arms.setdefault(json.dumps(identity, sort_keys=True), []).append(place)
    return list(arms.values())


def numbered(names: Sequence[str]) -> list[str]:
    """Names, with a number behind those that come more than once."""
    return [
        name if names.count(name) == 1 else f"{name} ({1 + names[:place].count(name)})"
        for place, name in enumerate(names)
    ]


def arm_labels(
    groups: Sequence[Sequence[int]], names: Sequence[str], configs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """One label an arm.

    The paper's name where it tells the arms apart; else the directory's for an arm of one run, and for one of several
    the settings in which the arms differ.
    """
    first = [configs[places[0]] for places in groups]
    kinds = [kind(config) for config in first]
    if len(set(kinds)) == len(kinds):
        return kinds
    experiments = [experiment(config) for config in first]
    differing = [name for name in experiments[0] if any(one.get(name) != experiments[0][name] for one in experiments)]
    labels = []
    for places, its_kind, settings in zip(groups, kinds, experiments, strict=True):
        if len(places) == 1:
            labels.append(names[places[0]])
        else:
            said = ", ".join(f"{name} {shown(name, settings.get(name))}" for name in differing)
            labels.append(said or f"{its_kind}, {configs[places[0]]['data']['name']}")
    return numbered(labels)


def run_labels(
    groups: Sequence[Sequence[int]], arms: Sequence[str], names: Sequence[str], configs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """One label a run: its arm's, with the seed where the arm has several runs, and the directory's name if need be."""
    labels = [""] * len(names)
    for places, arm in zip(groups, arms, strict=True):
        seeds = [configs[place]["settings"]["seed"] for place in places]
        for place, seed in zip(places, seeds, strict=True):
            if len(places) == 1:
                labels[place] = arm
            else:
                labels[place] = f"{arm}, {f'seed {seed}' if seeds.count(seed) == 1 else names[place]}"
    return numbered(labels)
