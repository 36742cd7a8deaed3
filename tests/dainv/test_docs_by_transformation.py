"""docs/by-transformation.md says what the committed scores say."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "by-transformation.md"
ALONE = ["rotation", "shift", "zoom", "shear", "flip", "brightness", "contrast"]
GEOMETRY = ["rotation", "shift", "flip"]
LAYERS = [f"layer{number}" for number in range(1, 10)]
SEEDS = (1, 2)


@cache
def summary(arm, seed):
    return json.loads((DOCS / "by-transformation" / f"{arm}-seed{seed}" / "summary.json").read_text())


@cache
def medians(arm, seed):
    return {(row["transformation"], row["layer"]): row["median"] for row in summary(arm, seed)["scores"]}


def gain(seed, transformation, layer):
    return medians("invariance", seed)[transformation, layer] - medians("baseline", seed)[transformation, layer]


def curve(arm, seed, transformation, layer):
    rows = summary(arm, seed)["curves"]
    return {
        row["strength"]: row["median"]
        for row in rows
        if (row["transformation"], row["layer"]) == (transformation, layer)
    }


def table():
    shown = ["input", "layer3", "layer5", "layer7", "layer9"]
    lines = [f"| transformation | {' | '.join(shown)} |", f"| --- |{' --- |' * len(shown)}"]
    for transformation in ["half-extremes", *ALONE]:
        cells = []
        for layer in shown:
            both = [
                ", ".join(f"{medians(arm, seed)[transformation, layer]:.2f}" for seed in SEEDS)
                for arm in ("baseline", "invariance")
            ]
            cells.append(both[0].split(",")[0] if layer == "input" else " → ".join(both))
        lines.append(f"| {transformation} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_is_of_the_committed_scores():
    found = re.search(r"<!-- by-transformation -->\n(.*?)\n<!-- /by-transformation -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == table()


def test_all_four_were_scored_alike_by_one_clean_commit():
    found = [summary(arm, seed) for arm in ("baseline", "invariance") for seed in SEEDS]
    assert len({one["provenance"]["environment"]["commit"] for one in found}) == 1
    assert not any(one["provenance"]["environment"]["uncommitted_changes"] for one in found)
    assert len({one["provenance"]["data_sha256"] for one in found}) == 1
    assert len({one["provenance"]["model_sha256"] for one in found}) == 4
    for one in found:
        assert one["settings"] | {"model": ""} == found[0]["settings"] | {"model": ""}
        assert (one["images"], one["settings"]["transform"]) == (2000, ["half-extremes"])
    for transformation in ["half-extremes", *ALONE]:
        assert (
            len({medians(arm, seed)[transformation, "input"] for arm in ("baseline", "invariance") for seed in SEEDS})
            == 1
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_flips_shifts_and_rotations_gain_most(seed):
    for layer in LAYERS[4:8]:
        gains = {transformation: gain(seed, transformation, layer) for transformation in ALONE}
        assert set(sorted(gains, key=gains.__getitem__)[-3:]) == set(GEOMETRY)
        assert min(gains["zoom"], gains["shear"]) > 0.01
    largest = max(gain(seed, "flip", layer) for layer in LAYERS)
    assert largest <= 0.315
    assert round(max(gain(one, "flip", layer) for one in SEEDS for layer in LAYERS), 2) == 0.31


@pytest.mark.parametrize("seed", SEEDS)
def test_brightness_and_contrast_gain_nothing(seed):
    for layer in LAYERS:
        for transformation in ("brightness", "contrast"):
            assert abs(gain(seed, transformation, layer)) < 0.015
            assert medians("baseline", seed)[transformation, layer] > 0.96
    assert medians("baseline", seed)["brightness", "input"] < 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_the_middle_of_the_baseline_is_below_the_pixels(seed):
    found = medians("baseline", seed)
    for layer in ("layer4", "layer5"):
        for transformation in GEOMETRY:
            assert found[transformation, layer] < found[transformation, "input"] - 0.2


def test_turns_beyond_those_trained():
    found = {
        arm: [f"{curve(arm, seed, 'rotation', 'layer7')[90]:.2f}" for seed in SEEDS]
        for arm in ("baseline", "invariance")
    }
    assert found == {"baseline": ["0.22", "0.20"], "invariance": ["0.60", "0.51"]}
    for seed in SEEDS:
        pixels = curve("invariance", seed, "rotation", "input")
        for layer in ("layer6", "layer7", "layer8"):
            assert all(value > pixels[angle] for angle, value in curve("invariance", seed, "rotation", layer).items())
        below = [
            sum(curve("baseline", seed, "rotation", layer)[angle] < pixels[angle] for layer in LAYERS)
            for angle in pixels
        ]
        assert min(below) > len(LAYERS) / 2
