"""Which states of a run are saved, and that a run loses nothing by those that are not."""

import os
import signal

import pytest
import torch
from training_runs import Recorder, comparable, run, weights_of

from dainv import UserError
from dainv.runs import RunDirectory
from dainv.signals import Interrupted


def scripted(monkeypatch, accuracies):
    """The test accuracies of the epochs to come."""
    values = iter(accuracies)
    monkeypatch.setattr("dainv.training.record.accuracy", lambda *_, **__: {"loss": 1.0, "accuracy": next(values)})


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.1, 0.5, 0.4, 0.5), 4), ((0.1, 0.2, 0.3, 0.4), 12), ((0.4, 0.4, 0.1, 0.3), 0)]
)
def test_the_best_checkpoint_is_the_first_of_the_highest_test_accuracy(tmp_path, tiny, monkeypatch, accuracies, best):
    scripted(monkeypatch, accuracies)
    directory, _ = run(tmp_path, tiny, epochs=3)
    assert RunDirectory.open(directory.path, "best").load_checkpoint()["step"] == best
    assert directory.load_checkpoint()["step"] == 12


def test_a_run_stopped_between_its_checkpoint_and_the_best_makes_up_for_it(tmp_path, tiny, monkeypatch):
    with monkeypatch.context() as patch:
        scripted(patch, (0.1, 0.9))
        patch.setattr(RunDirectory, "save_best", lambda *_: None)
        run(tmp_path, tiny, epochs=1)
    assert not (tmp_path / "run" / "checkpoints" / "best.pt").exists()
    run(tmp_path, tiny, resume=True, epochs=1)
    assert RunDirectory.open(tmp_path / "run", "best").load_checkpoint()["step"] == 4


@pytest.mark.parametrize("tail", [b'{"epoch": 1, "st', b"\0" * 700, b'{"epoch": 1\xff', b"5\n"])
def test_what_a_killed_write_leaves_is_cleared_on_resume(tmp_path, tiny, tail):
    directory, _ = run(tmp_path, tiny, epochs=1)
    before = directory.metrics()
    with open(directory.path / "metrics.jsonl", "ab") as file:
        file.write(tail)
    torn = directory.path / "checkpoints" / ".best.pt.abc12345"
    torn.write_bytes(b"PK")
    resumed, _ = run(tmp_path, tiny, resume=True, epochs=1)
    assert resumed.metrics() == before
    assert not torn.exists()


def constant(monkeypatch):
    """No epoch but the first is the best."""
    monkeypatch.setattr("dainv.training.record.accuracy", lambda *_, **__: {"loss": 1.0, "accuracy": 0.5})


def steps_saved(monkeypatch):
    """Of all checkpoints to come."""
    steps, save = [], RunDirectory.save_checkpoint

    def listening(self, state):
        steps.append(state["step"])
        save(self, state)

    monkeypatch.setattr(RunDirectory, "save_checkpoint", listening)
    return steps


def test_short_epochs_are_saved_where_they_are_the_best_or_the_last(tmp_path, tiny, monkeypatch):
    scripted(monkeypatch, (0.1, 0.1, 0.5, 0.2, 0.3))
    steps = steps_saved(monkeypatch)
    run(tmp_path, tiny, epochs=4)
    assert steps == [0, 8, 16]


def test_long_epochs_are_all_saved(tmp_path, tiny, monkeypatch):
    constant(monkeypatch)
    monkeypatch.setattr("dainv.training.saving._SECONDS_APART", 0.0)
    steps = steps_saved(monkeypatch)
    run(tmp_path, tiny, epochs=3)
    assert steps == [0, 4, 8, 12]


def test_no_minutes_between_checkpoints_save_every_step(tmp_path, tiny, monkeypatch):
    constant(monkeypatch)
    steps = steps_saved(monkeypatch)
    run(tmp_path, tiny, epochs=2, checkpoint_minutes=0.0)
    assert steps == list(range(9))


def test_epochs_that_were_not_saved_come_again_once_and_in_the_same_bits(tmp_path, tiny, monkeypatch):
    """Killed after the records of three epochs, of which none has a checkpoint."""
    constant(monkeypatch)
    whole, _ = run(tmp_path, tiny, "whole", epochs=4)

    def killed(_self, record):
        if record["epoch"] == 3:
            raise UserError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "epoch", killed)
        with pytest.raises(UserError, match="killed"):
            run(tmp_path, tiny, "stopped", epochs=4)
    stopped = RunDirectory.open(tmp_path / "stopped")
    assert [record["epoch"] for record in stopped.metrics()] == [0, 1, 2, 3]
    assert stopped.load_checkpoint()["step"] == 0
    resumed, _ = run(tmp_path, tiny, "stopped", resume=True, epochs=4)
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert comparable(resumed) == comparable(whole)


def test_a_signal_during_an_evaluation_saves_the_end_of_that_epoch(tmp_path, tiny, monkeypatch):
    evaluations = []

    def stopping(*_, **__):
        evaluations.append(1)
        if len(evaluations) == 3:  # that of the untrained network is the first
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0, "accuracy": 0.5}

    monkeypatch.setattr("dainv.training.record.accuracy", stopping)
    with pytest.raises(Interrupted):
        run(tmp_path, tiny, epochs=4)
    stopped = RunDirectory.open(tmp_path / "run")
    assert stopped.load_checkpoint()["step"] == 8
    assert [record["epoch"] for record in stopped.metrics()] == [0, 1, 2]
