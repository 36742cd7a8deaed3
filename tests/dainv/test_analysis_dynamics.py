import csv

import numpy as np
import pytest
from analysis_runs import LAYERS, analyzed_run, make_run, records, save_data

from dainv import UserError
from dainv.analysis.csv_tables import dynamics_csv
from dainv.analysis.dynamics import Dynamics, band, read_dynamics


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", save_data(tmp_path / "data.npz"), epochs=4)


def test_losses_by_epoch_and_layer(run):
    dynamics = read_dynamics(run, LAYERS)
    made = records(4)
    assert dynamics.epochs.tolist() == [0, 1, 2, 3, 4]
    assert dynamics.train.shape == dynamics.control.shape == (5, 9)
    assert dynamics.train[3, 6] == made[3]["train"]["invariance"]["layer7"]
    assert dynamics.control[2, 0] == made[2]["control"]["invariance"]["layer1"]
    assert dynamics.train_accuracy.tolist() == [0.5] * 5
    assert dynamics.test_accuracy.tolist() == [0.9] * 5


def test_a_torn_last_record_is_left_out(run):
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "train": {"inv')
    assert read_dynamics(run, LAYERS).epochs[-1] == 4


def test_of_an_epoch_recorded_twice_the_last_record_counts(run):
    again = records(4)[2]
    again["test"]["accuracy"] = 0.25
    run.append_metrics(again)
    dynamics = read_dynamics(run, LAYERS)
    assert dynamics.epochs.tolist() == [0, 1, 2, 3, 4]
    assert dynamics.test_accuracy.tolist() == [0.9, 0.9, 0.25, 0.9, 0.9]


def two_phases(start=0):
    """A loss that is one batch's at first, then falls to epoch 10 and rises to epoch 30."""
    epochs = np.arange(start, 31)
    curve = np.interp(epochs, [0, 1, 10, 30], [5.0, 1.0, 0.2, 1.5])
    flat = np.full(len(epochs), 0.5)
    losses = np.stack([curve, flat], axis=1)
    return Dynamics(("turns", "flat"), epochs, losses, losses[::-1], flat, flat)


@pytest.mark.parametrize("start", [0, 1])
def test_phases_leave_out_the_batch_before_any_update(start):
    dynamics = two_phases(start)
    (fall, rise) = dynamics.train_phases["turns"]
    assert (fall.kind, dynamics.epochs[fall.start], dynamics.epochs[fall.end]) == ("fall", 1, 10)
    assert (rise.kind, dynamics.epochs[rise.start], dynamics.epochs[rise.end]) == ("rise", 10, 30)
    assert dynamics.turning_epochs("turns") == [10]
    assert dynamics.train_phases["flat"] == ()
    assert dynamics.turning_epochs("flat") == []
    assert [phase.kind for phase in dynamics.control_phases["turns"]] == ["fall", "rise"]


def test_mean_and_range_over_the_epochs_that_runs_share():
    one, other = two_phases(0), two_phases(1)
    other = Dynamics(
        other.layers, other.epochs, other.train + 1, other.control, other.train_accuracy, other.test_accuracy
    )
    mean, low, high = band([one, other])
    assert mean.epochs.tolist() == list(range(1, 31))
    np.testing.assert_allclose(mean.train, one.train[1:] + 0.5)
    np.testing.assert_array_equal(low.train, one.train[1:])
    np.testing.assert_array_equal(high.train, other.train)


def test_csv_in_long_form(tmp_path):
    run = analyzed_run(tmp_path, "run", epochs=4)
    rows = list(csv.DictReader(dynamics_csv([run, run]).decode().splitlines()))
    assert len(rows) == 2 * 5 * 9
    row = rows[2 * 9 + 4]
    assert (row["run"], row["epoch"], row["layer"]) == ("run", "2", "layer5")
    assert float(row["train"]) == pytest.approx(run.dynamics.train[2, 4], rel=1e-8)
    assert float(row["control"]) == pytest.approx(run.dynamics.control[2, 4], rel=1e-8)
    assert (float(row["train_accuracy"]), float(row["test_accuracy"])) == (0.5, 0.9)


def test_csv_marks_phases_and_turning_points(tmp_path):
    run = analyzed_run(tmp_path, "run")
    object.__setattr__(run, "dynamics", two_phases())
    rows = [row for row in csv.DictReader(dynamics_csv([run]).decode().splitlines()) if row["layer"] == "turns"]
    phases = [row["train_phase"] for row in rows]
    assert phases == ["", *["fall"] * 9, "turn", *["rise"] * 20]
    assert {row["control_phase"] for row in rows} == {"fall", "turn", "rise"}


@pytest.mark.parametrize("content", ["", "not json\n", "5\n"])
def test_no_metrics(run, content):
    (run.path / "metrics.jsonl").write_text(content)
    with pytest.raises(UserError, match="no metrics"):
        read_dynamics(run, LAYERS)


@pytest.mark.parametrize("content", ['{"epoch": 0}\n', '{"epoch": 0, "train": {"invariance": {}}}\n'])
def test_metrics_of_something_else(run, content):
    (run.path / "metrics.jsonl").write_text(content)
    with pytest.raises(UserError, match="record of its metrics lacks"):
        read_dynamics(run, LAYERS)
