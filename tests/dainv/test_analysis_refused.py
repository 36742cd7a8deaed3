"""What the analysis refuses, in one line, and what it leaves when it is interrupted."""

import json
import shutil

import pytest
from analysis_runs import make_quick, make_two_runs
from click.testing import CliRunner

from dainv import UserError
from dainv.analysis import analyze
from dainv.cli import main
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


def change_config(run, change):
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))


WRONG = {
    "no directory": (lambda place: [place / "nothing"], {}, "no such run directory"),
    "not a run": (lambda place: [place], {}, "not a run directory"),
    "no run among them": (lambda place: [place, place / "data.npz"], {}, "none of the 2 paths is a run"),
    "out": (lambda place: [place / "inv"], {"out": "FILE"}, "--out"),
    "the same twice": (lambda place: [place / "inv", place / "base" / ".." / "inv"], {}, "given twice"),
    "transform": (lambda place: [place / "inv"], {"transform": "heaviest"}, "no augmentation scheme 'heaviest'"),
    "too many images": (lambda place: [place / "inv"], {"images": 31}, "--images 31: data has 30 test images"),
    "no repeats": (lambda place: [place / "inv"], {"repeats": 0}, "--repeats: expected at least 1"),
    "data": (lambda place: [place / "inv"], {"data": "nowhere"}, "no data 'nowhere'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line(place, case):
    runs, options, message = WRONG[case]
    if "out" in options:
        options = {"out": place / "data.npz"}
    with pytest.raises(UserError) as caught:
        analyze(runs(place), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def no_checkpoint(run):
    shutil.rmtree(run / "checkpoints")


def no_metrics(run):
    (run / "metrics.jsonl").unlink()


def other_model(run):
    change_config(run, lambda config: config["model"].update(width=0.2))


def no_layers(run):
    change_config(run, lambda config: config.pop("layers"))


def foreign_config(run):
    (run / "config.json").write_text('{"settings": 3}')


def later_format(run):
    change_config(run, lambda config: config.update(format=2))


def grey_model(run):
    change_config(run, lambda config: config["model"].update(in_channels=1))
    state = RunDirectory.open(run).load_checkpoint()
    state["model"]["layer1.conv.weight"] = state["model"]["layer1.conv.weight"][:, :1].clone()
    RunDirectory.open(run).save_checkpoint(state)


def moved_data(run):
    change_config(run, lambda config: config["settings"].update(data="gone.npz"))


def file_in_the_way(run):
    (run / "analysis").write_text("")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_checkpoint, "no readable checkpoint"),
        (no_metrics, "no metrics"),
        (other_model, "does not fit its config.json"),
        (no_layers, "names no layers"),
        (foreign_config, "config.json has no settings.alpha"),
        (later_format, "config.json has format 2, this version of dainv reads 1"),
        (grey_model, "images of 3 channels; inv was trained on 1"),
        (moved_data, "--data says where it is now"),
        (file_in_the_way, "no analysis folder can be made"),
    ],
)
def test_a_spoilt_run_is_one_line(place, spoil, message):
    spoil(place / "inv")
    with pytest.raises(UserError) as caught:
        analyze([place / "inv"], repeats=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["dainv.analysis.scoring.score_network", "dainv.runs.os.fsync"])
def test_interrupted_at_any_time_leaves_no_half_written_file(place, monkeypatch, where):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    result = CliRunner().invoke(main, ["analyze", str(place / "inv"), "--repeats", "1"])
    assert result.exit_code == 130
    folder = place / "inv" / "analysis"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_what_cannot_be_written_is_found_before_the_work(place, monkeypatch):
    monkeypatch.setattr("dainv.analysis.scoring.score_network", lambda *_, **__: pytest.fail("scored before it"))
    wrong = CliRunner().invoke(main, ["analyze", str(place / "inv"), "--out", str(place / "data.npz" / "out")])
    assert wrong.exit_code == 1
    assert wrong.output.startswith("error: --out: ")
    monkeypatch.setattr("dainv.analysis.inputs.os.access", lambda *_: False)
    with pytest.raises(UserError, match="inv: cannot be written, and its scores are kept in it; analyze a copy of it"):
        analyze([place / "inv"], out=place / "out")
