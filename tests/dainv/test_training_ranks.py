"""Several processes train as one with the whole batch does; one of them writes."""

import json

import pytest
import torch
from ranks_work import started
from training_ranks import resumed_run, settings, updates, whole_run
from training_runs import Recorder, tiny_data

from dainv import UserError
from dainv.evaluation import accuracy
from dainv.models.loading import model_from_run
from dainv.models.tapped import TappedNetwork
from dainv.ranks import Ranks
from dainv.runs import RunDirectory
from dainv.training import Trainer, train


@pytest.fixture(scope="module")
def alone():
    return updates(Ranks())


@pytest.mark.parametrize("size", [2, 3])
def test_unequal_shares_of_a_batch_train_as_the_whole_batch(tmp_path, alone, size):
    found = started(updates, tmp_path, size)
    for one in found:
        torch.testing.assert_close(one["losses"], alone["losses"], rtol=1e-5, atol=1e-6)
        error = (one["parameters"] - alone["parameters"]).norm() / alone["parameters"].norm()
        assert error < 1e-6  # a share of another size counted as an equal one moves it by 1e-4
        assert torch.equal(one["parameters"], found[0]["parameters"])
        assert torch.equal(one["drawn"], alone["drawn"])  # the views of the whole batch, from everyone's generator


def test_local_statistics_are_those_of_each_share(tmp_path, alone):
    found = started(updates, tmp_path, 2, json.dumps({"invariance_scope": "local", "batch_norm": True}))
    assert torch.equal(found[0]["losses"], found[1]["losses"])  # their mean
    assert torch.equal(found[0]["parameters"], found[1]["parameters"])
    joined = started(updates, tmp_path / "joined", 2, json.dumps({"batch_norm": True}))
    assert not torch.allclose(found[0]["losses"][0, 3:], joined[0]["losses"][0, 3:], rtol=1e-3)
    torch.testing.assert_close(found[0]["losses"][0, 1], joined[0]["losses"][0, 1])  # the task's is the same
    assert "each process normalises by its own share" in found[0]["messages"][0]


def test_a_run_of_two_processes_is_that_of_one(tmp_path):
    found = started(whole_run, tmp_path, 2, str(tmp_path))
    assert [one["epochs"] for one in found] == [3, -1]
    run = RunDirectory.open(tmp_path / "run")
    assert run.config["processes"] == 2
    expected = train(settings(""), tiny_data(), str(tmp_path / "alone"), Recorder(), resume=False)
    for ours, theirs in zip(run.metrics(), expected.metrics(), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["test"]["accuracy"] == theirs["test"]["accuracy"]
        assert ours["test"]["loss"] == pytest.approx(theirs["test"]["loss"], rel=1e-4)
        for part in ("loss", "task", "accuracy"):
            assert ours["train"][part] == pytest.approx(theirs["train"][part], rel=1e-4)
        assert ours["control"]["invariance"] == pytest.approx(theirs["control"]["invariance"], rel=1e-3)
    one, other = (torch.cat([v.flatten() for v in r.load_checkpoint()["model"].values()]) for r in (run, expected))
    assert (one - other).norm() < 1e-5 * other.norm()
    train(settings(""), tiny_data(), str(run.path), Recorder(), resume=True)  # by another number of processes


def test_what_a_network_draws_and_averages_is_resumed_and_saved_as_it_was(tmp_path):
    found = started(resumed_run, tmp_path, 2, str(tmp_path))  # shares of four and three images
    for one in found:
        assert torch.equal(*one["weights"])
    run = RunDirectory.open(tmp_path / "run")
    network = TappedNetwork(model_from_run(run), ()).eval()
    last = run.metrics()[-1]["test"]
    assert accuracy(network, tiny_data().test)["loss"] == pytest.approx(last["loss"], rel=1e-6)


def test_more_processes_than_source_images_are_refused():
    with pytest.raises(UserError, match="7 source images"):
        Trainer(settings(""), tiny_data(), Recorder(), ranks=Ranks(size=8))
