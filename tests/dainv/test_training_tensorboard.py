import sys

import pytest
from training_runs import run

from dainv import UserError
from dainv.runs import RunDirectory

pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")


def events(directory):
    """As TensorBoard reads them: (name, epoch) -> value; each at most once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(directory.tensorboard_path)).Reload()
    points = [(name, event.step, event.value) for name in read.Tags()["scalars"] for event in read.Scalars(name)]
    found = {(name, epoch): value for name, epoch, value in points}
    assert len(found) == len(points)
    return found


def test_every_record_becomes_a_point_of_every_curve(tmp_path, tiny):
    directory, _ = run(tmp_path, tiny, epochs=2, tensorboard=True)
    found, records = events(directory), directory.metrics()
    assert {epoch for _, epoch in found} == {0, 1, 2}
    for record in records:
        epoch, expected = record["epoch"], {}
        expected |= {f"train/{name}": record["train"][name] for name in ("loss", "task", "accuracy")}
        expected |= {f"test/{name}": record["test"][name] for name in ("loss", "accuracy")}
        expected |= {f"schedule/{name}": record[name] for name in ("learning_rate", "alpha")}
        expected |= {f"time/{name}": record[name] for name in ("seconds", "images_per_second")}
        for part in ("train", "control"):
            expected |= {f"invariance_{part}/{layer}": loss for layer, loss in record[part]["invariance"].items()}
        assert len(expected) == 9 + 2 * 9
        if epoch == 0:  # the untrained network has no speed
            assert expected.pop("time/images_per_second") is None
        assert {name: value for (name, at), value in found.items() if at == epoch} == pytest.approx(expected)


def test_a_resumed_run_has_each_epoch_once(tmp_path, tiny, monkeypatch):
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
    assert {epoch for _, epoch in events(RunDirectory.open(tmp_path / "run"))} == {0, 1}
    directory, _ = run(tmp_path, tiny, resume=True, epochs=3, tensorboard=True)
    assert len(list(directory.tensorboard_path.iterdir())) == 2  # the second has all, and replaces the first
    curve = {epoch: value for (name, epoch), value in events(directory).items() if name == "train/loss"}
    assert curve == pytest.approx({record["epoch"]: record["train"]["loss"] for record in directory.metrics()})
    assert list(curve) == [0, 1, 2, 3]


def test_a_run_may_ask_for_curves_when_it_is_done(tmp_path, tiny):
    directory, _ = run(tmp_path, tiny, epochs=1)
    assert not directory.tensorboard_path.exists()
    run(tmp_path, tiny, resume=True, epochs=1, tensorboard=True)
    assert {epoch for _, epoch in events(directory)} == {0, 1}


def test_without_the_package_nothing_is_begun(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(UserError, match=r"--tensorboard: .*pip install 'dainv\[tensorboard\]'"):
        run(tmp_path, tiny, tensorboard=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full")
def test_a_full_disk_is_one_line(tmp_path, tiny, monkeypatch, capfd):
    directory, _ = run(tmp_path, tiny, epochs=1)
    monkeypatch.setattr("dainv.tensorboard.time.time_ns", lambda: 1)
    directory.tensorboard_path.mkdir()
    (directory.tensorboard_path / "events.out.tfevents.1").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"tensorboard: cannot be written .*No space left"):
        run(tmp_path, tiny, resume=True, epochs=1, tensorboard=True)
    assert "Traceback" not in capfd.readouterr().err
    assert directory.load_checkpoint()["step"] == 4
