"""From run directories to files, as a user sees it."""

import csv
import json
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
import torch
from analysis_runs import LAYERS, TEST_IMAGES, make_quick, make_run, make_two_runs, save_data
from click.testing import CliRunner
from rich.console import Console
from scipy import stats

from dainv import augmentation, invariance_scores
from dainv.analysis import analyze
from dainv.cli import main
from dainv.data import load_data
from dainv.models.loading import model_from_run
from dainv.runs import RunDirectory

FILES = ["dynamics.csv", "figure1.png", "figure1.svg", "figure2.png", "figure2.svg"]
FILES += ["report.html", "scores.csv", "scores.npz", "summary.json"]
scoring = sys.modules["dainv.analysis.scoring"]


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    make_quick(monkeypatch, pictures="pictures" in request.fixturenames)


@pytest.fixture
def pictures():
    """Ask for the real pictures."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs that no test writes to."""
    return make_two_runs(tmp_path_factory.mktemp("made"), seed=1)


@pytest.fixture
def place(made, tmp_path):
    """The same two runs, for one test."""
    shutil.copytree(made, tmp_path / "place")
    return tmp_path / "place"


def files(run):
    folder = run / "analysis"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


def change_config(run, change):
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))


def forbid_scoring(monkeypatch):
    monkeypatch.setattr(scoring, "score_network", lambda *_, **__: pytest.fail("scores were made again"))


@pytest.mark.usefixtures("pictures")
def test_a_comparison_goes_to_the_first_run_and_scores_to_their_own(place):
    result = analyze([place / "base", place / "inv"], repeats=2)
    assert sorted(files(place / "base")) == FILES
    assert sorted(files(place / "inv")) == ["dynamics.csv", "scores.csv", "scores.npz"]
    assert result.report == place / "base" / "analysis" / "report.html"
    assert [run.label for run in result.runs] == ["baseline", "data augmentation invariance"]
    assert result.warnings == ()


def test_scores_are_those_of_equation_2(place):
    analyze([place / "inv"], repeats=2, seed=3)
    model = model_from_run(RunDirectory.open(place / "inv"))
    images = load_data(str(place / "data.npz")).test.batch(torch.arange(TEST_IMAGES))
    expected = invariance_scores(
        model, images, layers="layer?", transform=augmentation("half-extremes"), repeats=2, seed=3
    )
    with np.load(place / "inv" / "analysis" / "scores.npz", allow_pickle=False) as stored:
        for layer in ("input", *LAYERS):
            np.testing.assert_array_equal(stored[layer], expected.sigma[layer])
        source = json.loads(str(stored["source"]))["source"]
    assert source["step"] == 6
    assert (source["transform"], source["repeats"], source["images"], source["seed"]) == (
        "half-extremes",
        2,
        TEST_IMAGES,
        3,
    )


def test_csv_and_summary_agree_with_the_scores(place):
    result = analyze([place / "base", place / "inv"], repeats=3)
    with (place / "inv" / "analysis" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["input", *LAYERS]
    summary = json.loads((place / "base" / "analysis" / "summary.json").read_text())
    for row in rows:
        scores = result.runs[1].scores.sigma[row["layer"]]
        assert float(row["median"]) == pytest.approx(np.median(scores))
        assert float(row["mean"]) == pytest.approx(scores.mean())
        assert int(row["n"]) == 3 * TEST_IMAGES
        layer = summary["runs"][1]["layers"][row["layer"]]
        assert layer["sigma"]["median"]["low"] == float(row["median_low"])
        assert layer["D"] == int(row["D"])
    compared = summary["comparisons"][0]["images"][0]["layers"]["layer6"]
    difference = compared["difference"]["value"]
    medians = [np.median(run.scores.sigma["layer6"]) for run in result.runs]
    assert difference == pytest.approx(medians[1] - medians[0])
    means = [run.scores.sigma["layer6"].mean(axis=0) for run in result.runs]
    assert compared["p"] == pytest.approx(stats.wilcoxon(means[1], means[0]).pvalue)
    assert summary["findings"]
    assert set(summary["definitions"]) >= {"sigma", "interval", "whiskers", "train", "control"}


def test_again_is_the_same_bytes_and_nothing_is_computed(place, monkeypatch):
    analyze([place / "base", place / "inv"], repeats=2)
    before = files(place / "base")
    forbid_scoring(monkeypatch)
    result = analyze([place / "base", place / "inv"], repeats=2)
    assert files(place / "base") == before
    assert len(result.notes) == 2
    assert "taken from the earlier analysis" in result.notes[0]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"repeats": 1}, {"images": 20}, {"transform": "light"}, {"data": "other.npz"}]
)
def test_scores_of_another_question_are_not_reused(place, change):
    save_data(place / "other.npz", seed=9)
    if "data" in change:
        change = {"data": str(place / change["data"])}
    first = analyze([place / "inv"], repeats=2)
    second = analyze([place / "inv"], **{"repeats": 2, **change})
    assert second.notes == ()
    assert not np.array_equal(first.runs[0].scores.sigma["layer3"], second.runs[0].scores.sigma["layer3"])


def test_scores_of_other_weights_are_not_reused(place):
    run = RunDirectory.open(place / "inv")
    first = analyze([run.path], repeats=2)
    state = run.load_checkpoint()
    state["model"]["layer1.conv.weight"] += 0.1
    run.save_checkpoint(state)  # at the same step
    second = analyze([run.path], repeats=2)
    assert second.notes == ()
    assert not np.array_equal(first.runs[0].scores.sigma["layer3"], second.runs[0].scores.sigma["layer3"])


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b"", lambda b: b[:-400] + bytes(400)])
def test_damaged_scores_are_made_again(place, damage):
    analyze([place / "inv"], repeats=2)
    path = place / "inv" / "analysis" / "scores.npz"
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert analyze([place / "inv"], repeats=2).notes == ()
    assert path.read_bytes() == good


def test_a_part_of_the_images_is_drawn_across_classes(place):
    result = analyze([place / "inv"], repeats=1, images=10)
    assert result.runs[0].scores.sigma["input"].shape == (1, 10)
    assert "10 of the 30 of the test set, drawn at random" in result.report.read_text()
    data = load_data(str(place / "data.npz"))
    chosen = scoring.ScoringPlan(images=10).chosen(data).tolist()
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen)
    assert chosen != list(range(10))


@pytest.mark.usefixtures("pictures")
def test_no_file_tells_where_it_was_made(place):
    analyze([place / "base", place / "inv"], repeats=1)
    for run in ("base", "inv"):
        for name, content in files(place / run).items():
            assert str(place).encode() not in content, name
            assert b"data.npz" not in content, name


def test_other_data_is_said_so(place):
    save_data(place / "other.npz", seed=9)
    result = analyze([place / "inv"], repeats=1, data=str(place / "other.npz"))
    assert any("was scored on other data" in warning for warning in result.warnings)
    assert "was scored on other data" in result.report.read_text()


def test_runs_on_different_data_are_not_subtracted(place):
    make_run(place / "elsewhere", save_data(place / "other.npz", seed=9), alpha=0.1)
    result = analyze([place / "base", place / "elsewhere"], repeats=1)
    assert result.comparisons == ()
    assert any("different data" in warning for warning in result.warnings)


def test_a_network_that_guesses_is_said_so(place):
    make_run(place / "guess", place / "data.npz", accuracy=1 / 3)
    assert any("not above guessing" in warning for warning in analyze([place / "guess"], repeats=1).warnings)


def test_a_dead_layer_is_called_constant(place):
    run = RunDirectory.open(place / "inv")
    state = run.load_checkpoint()
    state["model"]["layer9.norm.weight"].zero_()
    state["model"]["layer9.norm.bias"].fill_(-1)
    run.save_checkpoint(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = analyze([place / "base", run.path], repeats=1)
    assert any("layer9" in warning for warning in result.warnings)
    assert "layer9" not in result.comparisons[0].pairs[0].tests
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(result.table())
    assert "no score" in console.export_text()
    with (run.path / "analysis" / "scores.csv").open() as file:
        dead = list(csv.DictReader(file))[-1]
    assert (dead["n"], dead["median"]) == ("0", "")
    assert json.loads((place / "base" / "analysis" / "summary.json").read_text())["runs"][1]["layers"]["layer9"][
        "constant"
    ]


def test_an_infinite_layer_is_not_called_constant_the_second_time_either(place):
    run = RunDirectory.open(place / "inv")
    state = run.load_checkpoint()
    state["model"]["layer9.norm.weight"].fill_(3e38)
    run.save_checkpoint(state)
    for _ in range(2):
        result = analyze([run.path], repeats=1)
        assert "inv: infinite or NaN activations, hence without a score: layer9" in result.warnings
    assert len(result.notes) == 1


def test_a_damaged_checkpoint_is_passed_over(place):
    run = RunDirectory.open(place / "inv")
    state = run.load_checkpoint()
    run.save_checkpoint({**state, "step": 8})
    run.checkpoints()[-1].write_bytes(b"torn")
    result = analyze([run.path], repeats=1)
    assert result.runs[0].source.step == 6
    assert any("damaged" in warning for warning in result.warnings)


def test_an_unfinished_run_is_said_so(place):
    run = RunDirectory.open(place / "inv")
    change_config(run.path, lambda config: config.update(total_steps=6))
    assert analyze([run.path], repeats=1).warnings == ()
    change_config(run.path, lambda config: config.update(total_steps=96))
    run.save_checkpoint({**run.load_checkpoint(), "step": 7})
    assert analyze([run.path], repeats=1).warnings == (
        "inv: scored after update 7 of 96, before the end of its training",
        "inv: its accuracy is that of update 6 (epoch 3), its scores are those of update 7",
    )


def test_a_batch_of_the_untrained_network_is_not_taken_for_the_first_epoch(place):
    result = analyze([place / "base"], repeats=1)
    curve = result.arms[0].dynamics.mean.train[:, 0]
    untrained, first, last = (f"{value:.2f}" for value in curve[[0, 1, -1]])
    assert untrained < first < last
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(result.table())
    assert f"{first} → {last}" in console.export_text()
    report = result.report.read_text()
    assert f"layer 1 {first} to {last}" in report
    assert re.search(r"<th[^>]*>Untrained</th><th[^>]*>Epoch 1</th>", report)
    assert f"from {first} to {last} at layer 1" in report


def test_a_lost_environment_is_said_so(place):
    (place / "inv" / "environment.json").unlink()
    assert "unknown: environment.json is lost" in analyze([place / "inv"], repeats=1).report.read_text()
    assert "is lost" not in analyze([place / "base"], repeats=1).report.read_text()


def test_epochs_without_a_record_are_named(place):
    path = place / "inv" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:20] + "\n" + lines[3] * 2)
    result = analyze([place / "inv"], repeats=1)
    assert result.warnings == ("inv: its metrics lack epoch 1–2",)
    assert result.runs[0].dynamics.epochs.tolist() == [0, 3]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_table_fits_eighty_columns(place, n):
    for number in range(n):
        make_run(place / f"run{number}", place / "data.npz", alpha=0.1 * number)
    result = analyze([place / f"run{number}" for number in range(n)], repeats=1)
    assert len(result.arms) == n
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(result.table())
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…\n" not in text
    rows = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert [row for row in rows if row == "input" or row.isdigit()] == ["input", *map(str, range(1, 10))]
    median = np.median(result.runs[-1].scores.sigma["layer9"])
    assert f"{median:.2f}".replace("-", "−") in text


@pytest.mark.parametrize("n", [2, 3])
def test_a_narrow_terminal_takes_no_number_away(place, n):
    make_run(place / "more", place / "data.npz", alpha=0.2)
    runs = [str(place / name) for name in ("base", "inv", "more")[:n]]
    printed = CliRunner(env={"COLUMNS": "20"}).invoke(main, ["analyze", *runs, "--repeats", "1"]).stdout
    for run in analyze(runs, repeats=1).runs:
        for layer, summary in run.summaries.items():
            shown = f"({summary.box.q1:.2f}…{summary.box.q3:.2f})".replace("-", "−")
            assert shown in printed, layer


def test_command(place):
    result = CliRunner().invoke(
        main, ["analyze", str(place / "base"), str(place / "inv"), "--repeats", "1", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    assert "baseline" in result.output
    assert "report.html" in result.output
    again = CliRunner().invoke(main, ["analyze", str(place / "base"), "--repeats", "1", "--device", "cpu"])
    assert "taken from the earlier analysis" in again.output
    printed = CliRunner().invoke(main, ["analyze", str(place / "base"), "--repeats", "1", "--format", "json"])
    assert json.loads(printed.stdout) == json.loads((place / "base" / "analysis" / "summary.json").read_text())
    assert "report:" in printed.stderr
    printed = CliRunner().invoke(main, ["analyze", str(place / "base"), "--repeats", "1", "--format", "csv"])
    assert printed.stdout_bytes == (place / "base" / "analysis" / "scores.csv").read_bytes()
    wrong = CliRunner().invoke(main, ["analyze", str(place / "base"), "--transform", "heaviest"])
    assert wrong.exit_code == 1
    assert wrong.output.startswith("error: no augmentation scheme 'heaviest'")
