import sys
from types import SimpleNamespace

import pytest
from training_runs import run

from dainv import UserError
from dainv.runs import RunDirectory


@pytest.fixture
def events(monkeypatch):
    """Events as a reader sees them, (name, epoch) -> value, from a writer that stands in for TensorBoard's."""
    seen = {}

    class Writer:
        def __init__(self, folder, purge_step=None):
            self.folder = folder
            for key in [key for key in seen if purge_step is not None and key[1] >= purge_step]:
                del seen[key]

        def add_scalar(self, name, value, epoch):
            assert (name, epoch) not in seen
            seen[name, epoch] = value

        def flush(self):
            pass

        def close(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    return seen


def test_every_record_becomes_a_point_of_every_curve(tmp_path, tiny, events):
    directory, _ = run(tmp_path, tiny, epochs=2, tensorboard=True)
    records = directory.metrics()
    assert {epoch for _, epoch in events} == {0, 1, 2}
    for record in records:
        epoch = record["epoch"]
        assert events["test/accuracy", epoch] == record["test"]["accuracy"]
        assert events["schedule/learning_rate", epoch] == record["learning_rate"]
        assert events["schedule/alpha", epoch] == record["alpha"]
        assert events["time/seconds", epoch] == record["seconds"]
        for layer, loss in record["train"]["invariance"].items():
            assert events[f"invariance_train/{layer}", epoch] == loss
    assert events["time/images_per_second", 2] > 0
    assert len(events) == 3 * (8 + 2 * 9) + 2  # the untrained network has no speed


def test_a_resumed_run_has_each_epoch_once(tmp_path, tiny, events, monkeypatch):
    """Stopped after the record of an epoch and before its checkpoint, so that the epoch comes again."""
    with monkeypatch.context() as patch:
        save = RunDirectory.save_checkpoint

        def full(self, state):
            if state["step"] == 8:
                raise UserError("the disk is full")
            save(self, state)

        patch.setattr(RunDirectory, "save_checkpoint", full)
        patch.setattr("dainv.training.saving._SECONDS_APART", 0.0)
        with pytest.raises(UserError, match="the disk is full"):
            run(tmp_path, tiny, epochs=3, tensorboard=True)
    assert {epoch for _, epoch in events} == {0, 1}
    directory, _ = run(tmp_path, tiny, resume=True, epochs=3, tensorboard=True)
    curve = {epoch: value for (name, epoch), value in events.items() if name == "train/loss"}
    assert curve == {record["epoch"]: record["train"]["loss"] for record in directory.metrics()}
    assert list(curve) == [0, 1, 2, 3]


def test_a_run_may_ask_for_curves_when_it_is_done(tmp_path, tiny, events):
    run(tmp_path, tiny, epochs=1)
    assert not events
    run(tmp_path, tiny, resume=True, epochs=1, tensorboard=True)
    assert {epoch for _, epoch in events} == {0, 1}


def test_without_the_package_nothing_is_begun(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"--tensorboard: .*pip install 'dainv\[tensorboard\]'"):
        run(tmp_path, tiny, tensorboard=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_what_tensorboard_reads(tmp_path, tiny):
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, tiny, epochs=2, tensorboard=True)
    directory, _ = run(tmp_path, tiny, resume=True, epochs=2, tensorboard=True)
    folder = directory.path / "tensorboard"
    assert len(list(folder.iterdir())) == 2  # the second time all was written again
    read = EventAccumulator(str(folder)).Reload()
    curve = [(event.step, event.value) for event in read.Scalars("train/loss")]
    assert curve == [(r["epoch"], pytest.approx(r["train"]["loss"])) for r in directory.metrics()]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, tiny, events, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(sys.modules["torch.utils.tensorboard"], "SummaryWriter", full)
    with pytest.raises(UserError, match=r"tensorboard: cannot be written .*No space left"):
        run(tmp_path, tiny, epochs=1, tensorboard=True)
    assert RunDirectory.open(tmp_path / "run").load_checkpoint()["step"] == 0
