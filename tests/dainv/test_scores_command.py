"""``dainv score`` from the command line to the files it leaves."""

import csv
import json
import sys
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import dainv
from dainv.analysis.scoring import ScoringPlan
from dainv.cli import main
from dainv.data import load_data
from dainv.models.loading import load_model
from dainv.scores import engine
from dainv.scores.curves import AXES
from dainv.scores.sampling import Sampling
from dainv.scores.settings import ScoreSettings
from dainv.signals import Interrupted

MODULE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AvgPool2d(4))

def darker(batch):
    return batch * 0.7

def cropped(batch):
    return batch[:, :, 1:]

def fails(batch):
    raise KeyError("x")
"""
SHORT = ["--data", "digits", "--images", "12", "--layers", "?", "--repeats", "2", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "own_scores_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_scores_module", None)


def run(*arguments, model="own_scores_module:make", code=0):
    result = CliRunner().invoke(main, ["score", model, *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def network():
    namespace = {}
    exec(MODULE, namespace)
    return namespace["make"]()


def test_everything_at_once_leaves_tables_figures_and_the_scores_of_every_image(tmp_path, network):
    out = tmp_path / "out"
    options = ["--by", "transformation", "--by", "class", "--curves", "--variance-ratio", "--out", out]
    printed = run(*SHORT, *options).output
    for word in ("half-extremes", "rotation", "classes", "brightness", "variance", str(out.name)):
        assert word in printed
    names = {path.name for path in out.iterdir()}
    assert names == {"scores.npz", "scores.csv", "curves.csv", "classes.csv", "summary.json"} | {
        f"{figure}.{form}" for figure in ("scores", "transformations", "curves") for form in ("png", "svg")
    }
    summary = json.loads((out / "summary.json").read_text())
    assert summary["provenance"]["data_sha256"] == load_data("digits").fingerprint()
    assert summary["provenance"]["environment"]["libraries"]["torch"]
    assert summary["settings"]["seed"] == 0
    assert {"sigma", "class_invariance", "variance_ratio"} <= set(summary["definitions"])
    assert len(summary["scores"]) == 8 * 4
    with np.load(out / "scores.npz") as arrays:
        indices, sigma = arrays["indices"], arrays["rotation/1"]
        strong = arrays["rotation 90/1"]
    images = load_data("digits").test.batch(torch.from_numpy(indices))
    alone = dainv.augmentation("half-extremes").alone("rotation")
    expected = dainv.invariance_scores(network, images, layers="1", transform=alone, repeats=2).sigma["1"]
    np.testing.assert_allclose(sigma, expected, rtol=1e-4, atol=1e-5)
    row = next(r for r in rows(out / "scores.csv") if (r["transformation"], r["layer"]) == ("rotation", "1"))
    assert float(row["median"]) == pytest.approx(np.median(expected), abs=1e-5)
    assert row["alone"] == "True"
    assert float(row["variance_ratio_pooled"]) > 0
    curves = rows(out / "curves.csv")
    assert len(curves) == 4 * sum(len(axis.strengths) for axis in AXES)
    row = next(r for r in curves if (r["transformation"], r["strength"], r["layer"]) == ("rotation", "90", "1"))
    assert float(row["q3"]) == pytest.approx(np.percentile(strong, 75))
    assert next(r["pixels"] for r in curves if r["transformation"] == "shift") == "0.8 x 0.8"
    of_pixels = {
        (r["transformation"], float(r["strength"])): float(r["median"]) for r in curves if r["layer"] == "input"
    }
    for axis in AXES:
        near_to_far = sorted(axis.strengths, key=lambda strength: abs(strength - axis.identity))
        nearest, farthest = (of_pixels[axis.transformation, near_to_far[place]] for place in (0, -1))
        assert nearest > farthest
    classes = rows(out / "classes.csv")
    assert {row["name"] for row in classes} - {"all"} <= set("0123456789")
    assert sum(int(row["images"]) for row in classes if (row["layer"], row["name"]) == ("1", "all")) == 12


def test_what_another_call_left_does_not_stand_beside_this_ones_summary(tmp_path):
    out = tmp_path / "out"
    run(*SHORT, "--by", "transformation", "--by", "class", "--out", out)
    (out / "notes.txt").write_text("mine")
    assert (out / "classes.csv").exists()
    assert f"warning: {out} holds an earlier result" in run(*SHORT, "--out", out).stderr
    assert {path.name for path in out.iterdir()} == {
        *("scores.npz", "scores.csv", "summary.json", "scores.png", "scores.svg", "notes.txt")
    }


def test_the_files_of_an_analysis_are_not_replaced(tmp_path):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "dynamics.csv").write_text("")
    printed = run(*SHORT, "--out", tmp_path / "analysis", code=1).output
    assert "`dainv analyze` has files of the same names there" in printed
    assert len(list((tmp_path / "analysis").iterdir())) == 1


def test_own_transformations_stand_beside_schemes_and_json_is_all_that_is_printed():
    result = run(*SHORT, "--transform", "half-extremes", "--transform", "own_scores_module:darker", "--format", "json")
    found = json.loads(result.stdout)
    assert {row["transformation"] for row in found["scores"]} == {"half-extremes", "own_scores_module:darker"}
    assert found["images"] == 12


def test_csv_is_printed_with_a_header():
    lines = run(*SHORT, "--format", "csv").stdout.splitlines()
    assert lines[0].startswith("transformation,alone,layer,D,images")
    assert len(lines) == 1 + 4


def test_a_normalisation_leaves_the_pixels_alone():
    plain, scaled, two = (
        json.loads(run(*SHORT, "--format", "json", *more).stdout)["scores"]
        for more in ([], ["--normalize", "imagenet"], ["--normalize", "0.5 0.25"])
    )
    for changed in (scaled, two):
        assert changed[0] == plain[0]
        assert changed[1]["median"] != plain[1]["median"]


def test_a_network_that_nobody_trained_is_called_so(tmp_path):
    options = ["--images", 4, "--repeats", 1, "--data", "digits"]
    found = run(*options, "--layers", "fc", model="cifar-resnet18")
    assert "warning: cifar-resnet18 has random weights" in found.stderr
    assert "random weights" not in run(*SHORT).stderr
    for command in ("rdm", "cka"):
        out = ["--layers", "layer9", "--images", "4", "--data", "digits", "--out", str(tmp_path / f"{command}.npz")]
        done = CliRunner().invoke(main, [command, "allcnn", *(out if command == "rdm" else out[:-2])])
        assert done.exit_code == 0, done.output
        assert done.stderr.count("allcnn has random weights") == 1


def test_a_run_is_scored_with_its_weights_on_its_own_images(tmp_path):
    data = load_data("digits")
    options = ["--data", "digits", "--width", "0.05", "--steps", "2", "--batch-size", "16", "--device", "cpu"]
    trained = CliRunner().invoke(main, ["train", *options, "--run-dir", str(tmp_path / "run")])
    assert trained.exit_code == 0, trained.output
    run("--images", 10, "--out", tmp_path / "out", "--device", "cpu", model=str(tmp_path / "run"))
    with np.load(tmp_path / "out" / "scores.npz") as arrays:
        images, sigma = data.test.batch(torch.from_numpy(arrays["indices"])), arrays["half-extremes/layer9"]
    network = load_model(str(tmp_path / "run"))
    scheme = dainv.augmentation("half-extremes")
    expected = dainv.invariance_scores(network, images, layers="layer?", transform=scheme).sigma["layer9"]
    np.testing.assert_array_equal(sigma, expected)


def test_an_interrupted_command_is_continued_by_the_same(tmp_path, monkeypatch):
    out = tmp_path / "out"
    options = [*SHORT, "--batch-size", "4", "--out", out, "--format", "csv"]
    expected = run(*SHORT, "--batch-size", "4", "--format", "csv").stdout

    def stops(self, batch):
        finished(self, batch)
        if self._state.stage == "distances":
            self._file.save(self._state, now=True)
            raise Interrupted

    finished = engine.Engine._finished
    monkeypatch.setattr(engine.Engine, "_finished", stops)
    interrupted = run(*options, code=130)
    assert "the same command continues it" in interrupted.stderr
    assert [path.name for path in out.iterdir()] == ["unfinished-0.npz"]
    monkeypatch.undo()
    other = run(*options, "--seed", "1", code=1)
    assert "unfinished work with another seed" in other.stderr
    assert run(*options).stdout == expected
    assert not (out / "unfinished-0.npz").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "9999"], "--images 9999: digits has"),
        (["--repeats", "1", "--variance-ratio"], "--repeats: --variance-ratio needs at least 2, got 1"),
        (["--layers", "conv*"], "no layer matches"),
        (["--transform", "heavy"], "no augmentation scheme 'heavy'"),
        (["--transform", "own_scores_module:lighter"], "own_scores_module:lighter"),
        (["--transform", "own_scores_module:cropped"], "expected the shape it was given"),
        (
            ["--transform", "own_scores_module:fails"],
            "own_scores_module:fails: KeyError: 'x' (own_scores_module.py, line",
        ),
        (["--transform", "own_scores_module:darker", "--by", "transformation"], "takes a scheme apart"),
        (["--transform", "light", "--transform", "light"], "given twice"),
        (["--normalize", "0.5"], "--normalize 0.5: expected"),
        (["--normalize", "0.5,0.5/0.2,0.2"], "2 channels, the images have 3"),
        (["--normalize", "0.5/0"], "positive deviations"),
        (["--data", "nothing"], "no data 'nothing'"),
        (["--out", "own_scores_module.py/out"], "--out: own_scores_module.py/out/summary.json cannot be written"),
    ],
)
def test_a_mistake_is_one_line(options, message):
    result = run(*SHORT, *options, code=1)
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("options", [["--images", "1"], ["--repeats", "0"], ["--batch-size", "0"], ["--seed", "-1"]])
def test_a_number_out_of_range_is_wrong_usage(options):
    assert f"Invalid value for '{options[0]}'" in run(*SHORT, *options, code=2).stderr


def test_a_model_without_known_layers_asks_for_them():
    result = run("--data", "digits", "--images", "4", code=1)
    assert "--layers" in result.stderr


@pytest.mark.parametrize(
    ("name", "value", "least"), [("images", 1, 2), ("repeats", 0, 1), ("batch_size", 0, 1), ("seed", -1, 0)]
)
def test_a_number_out_of_range_is_named(name, value, least):
    for settings in (Sampling, ScoringPlan, partial(ScoreSettings, "m")):
        with pytest.raises(
            dainv.UserError, match=f"--{name.replace('_', '-')}: expected at least {least}, got {value}"
        ):
            settings(**{name: value})
        settings(**{name: least})


def test_settings_know_which_scheme_is_taken_apart():
    assert ScoreSettings("m", transform=("a:b", "light", "heavier")).scheme.name == "light"
    assert ScoreSettings("m", transform=("a:b",)).scheme is None
