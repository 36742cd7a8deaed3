"""`dainv reproduce` from nothing to its page, on small pictures and narrow networks."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
from analysis_runs import save_data
from click.testing import CliRunner
from training_runs import Recorder

from dainv import UserError
from dainv.cli import main
from dainv.data import load_data
from dainv.reproduction.docs import filled
from dainv.reproduction.planned_runs import plan_runs
from dainv.reproduction.published import ARMS
from dainv.reproduction.training import adopt, is_finished, make_runs
from dainv.runs import RunDirectory

SMALL = ("--width", 0.05, "--batch-size", 8, "--views", 4, "--device", "cpu", "--batch-norm")
SCORING = ("--repeats", 2)


def reporting():
    return nullcontext(Recorder())


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_data(tmp_path_factory.mktemp("data") / "blobs.npz")


@pytest.fixture(scope="module")
def overhead(tmp_path_factory):
    measured = {
        "suite": "overhead",
        "environment": {"cuda_devices": [], "cpu": "a processor", "cpu_count": 2},
        "settings": {"width": 1.0, "batch_size": 128},
        "arms": {"published": {"overhead_percent": {"median": 60.0, "low": 58.0, "high": 66.0}}},
        "verdict": {"arm": "ours-relu", "overhead_percent": {"median": 4.0, "low": 2.0, "high": 6.0}},
    }
    file = tmp_path_factory.mktemp("overhead") / "overhead.json"
    file.write_text(json.dumps(measured))
    return file


@pytest.fixture(scope="module")
def reproduced(data, overhead, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction") / "paper"
    more = ("--variants", "printed", "--variant-epochs", 1, "--overhead", overhead)
    result = run(folder, data, *more)
    assert result.exit_code == 0, result.output
    return folder, result


def run(folder, data, *more):
    return invoke("reproduce", folder, "--budget", 2, *SCORING, *more, "--data", data, *SMALL)


def test_it_leaves_run_directories_and_a_page(reproduced):
    folder, result = reproduced
    runs = {f"{arm}-seed0" for arm in ARMS}
    assert {path.name for path in folder.iterdir()} == {*runs, "variants", "reproduction"}
    assert {path.name for path in (folder / "variants").iterdir()} == {
        f"{variant}-{one}" for variant in ("recipe", "printed") for one in runs
    }
    left = {path.name for path in (folder / "reproduction").iterdir()}
    assert left >= {"report.md", "summary.json", "accuracy.csv"}
    assert left >= {f"figure{n}.{form}" for n in (1, 2) for form in ("png", "svg")}
    assert "report.md" in result.output
    assert (folder / "reproduction" / "figure1.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_says_what_its_runs_say(reproduced):
    folder, _ = reproduced
    page = (folder / "reproduction" / "report.md").read_text()
    found = json.loads((folder / "reproduction" / "summary.json").read_text())
    assert "Scaled: 1 seed an arm on blobs (the paper's data are CIFAR-10), 2 of the published 350 epochs" in page
    assert found["changed_settings"] == {"batch_norm": True, "batch_size": 8, "views": 4, "width": 0.05}
    for arm in ARMS:
        lines = (folder / f"{arm}-seed0" / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        accuracy = records[-1]["test"]["accuracy"]
        assert found["accuracy"][arm]["runs"][0]["value"] == accuracy
        assert f"| {100 * accuracy:.2f} % (" in page
        published = {"baseline": 0.51, "invariance": 0.46}[arm]
        assert found["losses"][arm]["0"][0] == pytest.approx(records[1]["train"]["invariance"]["layer1"] - published)
    assert len(found["claims"]) == page.count("| **")
    assert str(folder) not in page + json.dumps(found)


def test_the_verdicts_are_in_the_terminal_the_page_and_the_summary(reproduced):
    folder, result = reproduced
    page = (folder / "reproduction" / "report.md").read_text()
    judged = {
        claim["claim"]: claim for claim in json.loads((folder / "reproduction" / "summary.json").read_text())["claims"]
    }
    assert judged["two phases"]["verdict"] == "cannot be said"
    assert judged["overhead"]["verdict"] == "holds"
    assert "+4.0 % (2.0 to 6.0) on a processor, 2 cores, of All-CNN-C, batches of 128" in judged["overhead"]["because"]
    assert all(f"| **{claim['verdict']}** | {claim['because']} |" in page for claim in judged.values())
    assert "cannot be said" in result.output


def test_its_results_are_all_there_is_to_publish(reproduced, tmp_path):
    """Copied into the docs and named in a page: tables, figures, and what the runs recorded, without checkpoints."""
    folder, _ = reproduced
    shutil.copytree(folder / "reproduction", tmp_path / "reproduction" / "small")
    published = tmp_path / "reproduction" / "small"
    for arm in ARMS:
        kept = {path.name for path in (published / "runs" / f"{arm}-seed0").iterdir()}
        assert kept == {"config.json", "environment.json", "metrics.jsonl"}
        recorded = (folder / f"{arm}-seed0" / "metrics.jsonl").read_text()
        assert (published / "runs" / f"{arm}-seed0" / "metrics.jsonl").read_text() == recorded
    assert not [path for path in published.rglob("*") if path.suffix in (".pt", ".npz")]
    page = filled("<!-- claims: reproduction/small -->\n<!-- /claims -->", tmp_path)
    assert "| not run | **" in page
    assert "[2 epochs, `--batch-size 8 --views 4 --batch-norm --width 0.05`](reproduction/small/report.md)" in page


def test_variants_are_ranked_by_their_distance_to_figure_2(reproduced):
    folder, _ = reproduced
    found = json.loads((folder / "reproduction" / "summary.json").read_text())
    assert {variant["variant"] for variant in found["variants"]} == {"recipe", "printed"}
    means = [variant["overall"][0] for variant in found["variants"]]
    assert means == sorted(means)
    assert found["nearest_variant"] in (folder / "reproduction" / "report.md").read_text()
    # in the unit of Figure 2 the printed form is near the other, as logged it would be some four times as large
    assert means[1] < means[0] + 0.2


@pytest.fixture
def made(reproduced, data, tmp_path):
    """The runs of the first seed alone, to be changed; and the plan that they are of."""
    for arm in ARMS:
        shutil.copytree(reproduced[0] / f"{arm}-seed0", tmp_path / "paper" / f"{arm}-seed0")
    settings = {"fused": True, "width": 0.05, "batch_size": 8, "views": 4, "device": "cpu", "batch_norm": True}
    return tmp_path / "paper", plan_runs({**settings, "data": str(data)}, [0], 2).main, load_data(str(data))


def test_finished_runs_are_recognised_and_left_alone(made):
    folder, planned, images = made
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    said = []
    make_runs(folder, planned, images, reporting, said.append)
    assert said == ["baseline-seed0: finished", "invariance-seed0: finished"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == kept


def test_a_run_that_was_cut_short_goes_on_to_the_same_losses(made):
    folder, planned, images = made

    def losses():
        return [record["train"] for record in RunDirectory.open(folder / "invariance-seed0").metrics()]

    whole = losses()
    sorted((folder / "invariance-seed0" / "checkpoints").glob("step-*.pt"))[-1].unlink()
    metrics = folder / "invariance-seed0" / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    assert not is_finished(RunDirectory.open(folder / "invariance-seed0"))
    said = []
    make_runs(folder, planned, images, reporting, said.append)
    assert said == ["baseline-seed0: finished", "invariance-seed0: run 2 of 2"]
    assert losses() == whole


def test_runs_made_elsewhere_are_adopted(made, tmp_path):
    folder, planned, _ = made
    source = tmp_path / "mine"
    (folder / "invariance-seed0").rename(source)
    assert "copied from" in adopt(folder, planned, source)
    assert (source / "config.json").exists()
    assert is_finished(RunDirectory.open(folder / "invariance-seed0"))
    assert "there already" in adopt(folder, planned, source)


def test_a_run_that_is_not_in_the_plan_is_not_adopted(made, tmp_path):
    folder, planned, _ = made
    other = [replace(run, settings=replace(run.settings, learning_rate=0.02)) for run in planned]
    with pytest.raises(UserError, match=r"made with --learning-rate 0\.01, not 0\.02"):
        adopt(tmp_path / "new", other, folder / "baseline-seed0")
    later = [replace(run, settings=replace(run.settings, seed=5)) for run in planned]
    with pytest.raises(UserError, match="seed 0, which is not among --seeds 5"):
        adopt(tmp_path / "new", later, folder / "baseline-seed0")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--learning-rate", 0.02), "made with --learning-rate 0.01, not 0.02"),
        (("--spread", 5), "made with --spread 10.0, not 5.0"),
    ],
)
def test_a_changed_setting_is_refused_by_name_before_anything_is_done(reproduced, data, change, says):
    folder, _ = reproduced
    result = run(folder, data, *change)
    assert result.exit_code == 1
    assert says in result.output
    assert result.output.count("\n") == 1


def test_other_data_are_refused(reproduced, tmp_path):
    folder, _ = reproduced
    result = run(folder, save_data(tmp_path / "blobs.npz", seed=7))
    assert result.exit_code == 1
    assert "made with other data" in result.output


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "not a result"), ('{"suite": "kernels"}', "results of 'kernels'"), ('{"suite": "overhead"}', "'verdict'")],
)
def test_a_file_that_is_no_measurement_of_overhead_is_refused(content, says, tmp_path):
    file = tmp_path / "overhead.json"
    file.write_text(content)
    result = invoke("reproduce", tmp_path / "paper", "--overhead", file)
    assert result.exit_code == 1
    assert says in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "paper").exists()


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("--batch-norm", "paper"), "DIR comes first", 1),
        (("paper", "--seeds", "x"), "--seeds: expected a number", 1),
        (("paper", "--seeds", "0"), "--seeds: expected different seeds, got none", 1),
        (("paper", "--run-dir", "x"), "--run-dir: not for a reproduction", 1),
        (("paper", "--resume"), "--resume: not for a reproduction", 1),
        (("paper", "--epochs", 3), "--epochs: use --budget", 1),
        (("paper", "--transform", "nothing"), "nothing", 1),
        (("paper", "--no-such-option"), "--no-such-option", 2),
        (("paper", "--variants", "nearer"), "there is no 'nearer'", 1),
        (("paper", "--adopt", "nowhere", "--data", "digits"), "nowhere: no such run directory", 1),
    ],
)
def test_a_mistake_is_said_in_a_line(arguments, says, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("reproduce", *arguments)
    assert result.exit_code == code, result.output
    assert says in result.output
    if code == 1:
        assert result.output.count("\n") == 1
