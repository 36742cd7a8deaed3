"""Several runs at once: what is compared, what is left out, where it goes, which checkpoint."""

import csv
import json
import shutil

import numpy as np
import pytest
from analysis_runs import LAYERS, make_quick, make_run, make_two_runs

from dainv import UserError
from dainv.analysis import analyze
from dainv.analysis.inputs import open_runs
from dainv.runs import RunDirectory


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    make_quick(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs that no test writes to."""
    return make_two_runs(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made, tmp_path):
    """The same two runs, for one test."""
    shutil.copytree(made, tmp_path / "place")
    return tmp_path / "place"


def files(run):
    return sorted(path.name for path in (run / "analysis").glob("*"))


def change_config(run, **changes):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, **changes}))


def test_runs_are_compared_at_the_layers_that_both_have(place):
    change_config(place / "inv", layers=LAYERS[:4])
    result = analyze([place / "base", place / "inv"], repeats=1)
    assert list(result.comparisons[0].pairs[0].tests) == LAYERS[:4]
    assert [row["layer"] for row in csv.DictReader(result.outputs.scores.decode().splitlines())] == [
        *("input", *LAYERS),
        *("input", *LAYERS[:4]),
    ]


def test_runs_without_a_layer_in_common(place):
    change_config(place / "inv", layers=["features.0", "features.3"])
    with pytest.raises(
        UserError, match=r"none of its layers \(features.0, features.3\) has the name of one of"
    ) as caught:
        analyze([place / "base", place / "inv"])
    assert "\n" not in str(caught.value)
    assert files(place / "base") == []


def test_a_config_of_another_model_needs_no_keys_of_all_cnn(place):
    change_config(place / "inv", model={"name": "resnet18"})
    (opened,) = open_runs([place / "inv"], "newest", None, pytest.fail)
    assert opened.config["model"] == {"name": "resnet18"}


def test_everything_in_a_folder_of_runs_just_works(place):
    make_run(place / "base-1", place / "data.npz", alpha=0.0, seed=1)
    make_run(place / "inv-1", place / "data.npz", alpha=0.1, seed=2)
    shutil.rmtree(place / "inv-1" / "checkpoints")
    result = analyze(sorted(place.iterdir()), repeats=1)
    assert [(arm.label, [run.name for run in arm.runs]) for arm in result.arms] == [
        ("baseline", ["base", "base-1"]),
        ("data augmentation invariance", ["inv"]),
    ]
    left_out = [warning for warning in result.warnings if warning.startswith("left out")]
    assert len(left_out) == 2
    assert "data.npz" in left_out[0]
    assert "no readable checkpoint" in left_out[1]


def test_a_typing_mistake_is_not_left_out(place):
    with pytest.raises(UserError, match="no such run directory"):
        analyze([place / "base", place / "imv"])


def test_a_comparison_goes_where_it_is_told(place):
    result = analyze([place / "base", place / "inv"], repeats=1, out=place / "compared" / "here")
    assert result.report == place / "compared" / "here" / "report.html"
    assert sorted(path.name for path in result.report.parent.iterdir()) == [
        *("figure1.png", "figure1.svg", "figure2.png", "figure2.svg", "report.html", "summary.json")
    ]
    for run in ("base", "inv"):
        assert files(place / run) == ["dynamics.csv", "scores.csv", "scores.npz"]


def test_the_best_checkpoint(place):
    run = RunDirectory.open(place / "inv")
    state = run.load_checkpoint()
    state["model"]["layer1.conv.weight"] += 0.1
    run.save_best({**state, "step": 4})
    newest = analyze([run.path], repeats=1)
    best = analyze([run.path], repeats=1, checkpoint="best")
    assert (newest.runs[0].source.step, best.runs[0].source.step) == (6, 4)
    assert best.runs[0].record["epoch"] == 2
    assert not np.array_equal(newest.runs[0].scores.sigma["layer3"], best.runs[0].scores.sigma["layer3"])
    assert any("chosen by its accuracy on the test images" in warning for warning in best.warnings)
    with pytest.raises(UserError, match="--checkpoint newest takes the newest"):
        analyze([place / "base"], repeats=1, checkpoint="best")


def change_settings(run, **changes):
    settings = json.loads((run / "config.json").read_text())["settings"]
    change_config(run, settings={**settings, **changes})


def test_arms_that_differ_in_more_than_alpha_are_doubted(place):
    change_settings(place / "base", augmentation="light", spread=5.0, fused=True, seed=3, workers=2)
    result = analyze([place / "base", place / "inv"], repeats=1)
    (warning,) = result.warnings
    assert warning.endswith("besides alpha, it differs from the baseline in augmentation (heavier, not light)")
    assert json.loads(result.outputs.summary)["warnings"] == list(result.warnings)
    assert warning in result.report.read_text()
    change_settings(place / "base", augmentation="heavier", alpha=0.1, seed=0)
    result = analyze([place / "base", place / "inv"], repeats=1)
    assert result.warnings == ("inv: it differs from base in spread (10.0, not 5.0)",)


def test_runs_of_one_name_are_told_apart_by_their_paths(place):
    for group in ("a", "b"):
        shutil.copytree(place / "inv", place / group / "seed0")
    change_settings(place / "b" / "seed0", alpha=0.2)
    change_config(place / "b" / "seed0", total_steps=8)
    result = analyze([place / "a" / "seed0", place / "b" / "seed0", place / "base"], repeats=1)
    names = [run["name"] for run in json.loads(result.outputs.summary)["runs"]]
    assert names == ["a/seed0", "b/seed0", "base"]
    table = csv.DictReader(result.outputs.scores.decode().splitlines())
    assert list(dict.fromkeys(row["run"] for row in table)) == names
    assert "b/seed0: scored after update 6 of 8, before the end of its training" in result.warnings


def test_the_same_seed_twice_is_doubted(place):
    make_run(place / "again", place / "data.npz", alpha=0.0)
    result = analyze([place / "base", place / "again"], repeats=1)
    assert any("2 runs have seed 0" in warning for warning in result.warnings)
    assert [run.label for run in result.runs] == ["baseline, base", "baseline, again"]
