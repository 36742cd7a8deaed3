import numpy as np
import pytest
from analysis_runs import LAYERS, make_run, records, save_data

from dainv import UserError
from dainv.analysis.dynamics import read_dynamics
from dainv.analysis.files import dynamics_csv


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


def test_a_torn_last_record_is_left_out(run):
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "train": {"inv')
    assert read_dynamics(run, LAYERS).epochs[-1] == 4


def test_csv_in_long_form(run):
    dynamics = read_dynamics(run, LAYERS)
    lines = dynamics_csv(dynamics).decode().splitlines()
    assert lines[0] == "epoch,layer,train,control"
    assert len(lines) == 1 + 5 * 9
    epoch, layer, train, control = lines[1 + 2 * 9 + 4].split(",")
    assert (int(epoch), layer) == (2, "layer5")
    np.testing.assert_array_equal([float(train), float(control)], [dynamics.train[2, 4], dynamics.control[2, 4]])


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
