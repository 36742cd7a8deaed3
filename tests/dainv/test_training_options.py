"""What a user may ask of training beside the published run: other schedules, clipping, the best checkpoint, phases."""

import json
import os
import signal

import pytest
import torch
from click.testing import CliRunner
from training_runs import SMALL, Recorder, comparable, run, tiny_data, weights_of

from dainv import UserError, layer_weights
from dainv.cli import main
from dainv.data import ImageData, ImageSplit
from dainv.runs import RunDirectory
from dainv.settings import TrainSettings
from dainv.signals import Interrupted, StopSignals
from dainv.training import Trainer
from dainv.training.checks import check_record

RELEASED = "0:10,10:0.1,87:0.1,175:0.1,262:0"  # loss01_decay of the released code


@pytest.fixture(autouse=True)
def _restore_determinism():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def tiny():
    return tiny_data()


def interrupt_at(trainer_class, monkeypatch, step):
    """The trainer stops as at SIGTERM after an update."""
    update = trainer_class.update

    def stop_and_update(self):
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self)

    monkeypatch.setattr(trainer_class, "update", stop_and_update)


def test_the_released_alpha_schedule():
    settings = TrainSettings(alpha_schedule=RELEASED)
    at = {epoch: settings.alpha_at(epoch, 350) for epoch in (0, 9, 10, 86, 87, 174, 175, 261, 262, 349)}
    assert list(at.values()) == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0, 0.0]


def test_the_alpha_schedule_scales_with_the_epochs():
    settings = TrainSettings(alpha_schedule=RELEASED)
    alphas = [settings.alpha_at(epoch, 35) for epoch in range(35)]
    assert [epoch for epoch in range(1, 35) if alphas[epoch] != alphas[epoch - 1]] == [1, 9, 18, 27]
    assert TrainSettings().alpha_at(349, 350) == 0.1


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("10", "EPOCH:FACTOR"),
        ("10:0.1,", "EPOCH:FACTOR"),
        ("ten:0.1", "EPOCH:FACTOR"),
        ("10:0.1,5:0.1", "growing epochs"),
        ("10:0.1,10:0.1", "growing epochs"),
        ("350:0.1", "0 to 349"),
        ("-1:0.1", "0 to 349"),
        ("0:11", "become 1.1 at epoch 0"),
        ("0:0.1,20:1000", "become 10 at epoch 20"),
        ("0:-1", "at epoch 0"),
        ("0:-1,5:-1", "at epoch 0"),
        ("0:nan", "at epoch 0"),
    ],
)
def test_alpha_schedules_that_cannot_be_are_named(schedule, message):
    with pytest.raises(UserError, match=f"--alpha-schedule: .*{message}"):
        TrainSettings(alpha_schedule=schedule)


def test_alpha_follows_its_schedule_and_is_recorded(tmp_path, tiny):
    """Every share is what the record says: of alpha 1 nothing is left for the task, of alpha 0 all."""
    directory, _ = run(tmp_path, tiny, epochs=4, alpha_schedule="0:10,100:0.3,200:0")
    records = directory.metrics()
    assert [record["alpha"] for record in records] == [1.0, 1.0, 1.0, 0.3, 0.0]
    for record in records:
        train = record["train"]
        weights = layer_weights(9, record["alpha"])
        expected = (1 - record["alpha"]) * train["task"]
        expected += sum(weight * loss for weight, loss in zip(weights, train["invariance"].values(), strict=True))
        assert train["loss"] == pytest.approx(expected, rel=1e-5)
        assert all(loss > 0 for loss in train["invariance"].values())
    assert directory.config["weights"] == pytest.approx(layer_weights(9))


def test_a_layer_whose_weight_becomes_0_gives_no_gradient(tiny):
    trainer = Trainer(TrainSettings(**SMALL, epochs=2, alpha_schedule="175:0"), tiny, Recorder())
    baseline = Trainer(TrainSettings(**SMALL, epochs=2, alpha=0.0), tiny, Recorder())
    trainer._prepare_epoch(1)
    for one in (trainer, baseline):
        one.update()
    for ours, theirs in zip(trainer.model.parameters(), baseline.model.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("step", [2, 5, 9])
def test_a_run_with_every_option_resumes_to_the_same_bits(tmp_path, tiny, monkeypatch, step):
    options = {"epochs": 3, "alpha_schedule": "100:5,230:0.1", "clip_gradients": 0.05, "learning_rate": 0.1}
    whole, _ = run(tmp_path, tiny, "whole", **options)
    with monkeypatch.context() as patch:
        interrupt_at(Trainer, patch, step)
        with pytest.raises(Interrupted):
            run(tmp_path, tiny, "stopped", **options)
    resumed, _ = run(tmp_path, tiny, "stopped", resume=True, **options)
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert comparable(resumed) == comparable(whole)
    best = [RunDirectory.open(one.path, "best").load_checkpoint()["step"] for one in (resumed, whole)]
    assert best[0] == best[1]


def test_clipping_bounds_the_norm_of_all_gradients(tiny):
    norms = {}
    for bound in (None, 1e-3):
        trainer = Trainer(TrainSettings(**SMALL, clip_gradients=bound), tiny, Recorder())
        trainer.update()
        norms[bound] = float(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm())
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert norms[None] > 2e-3


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_norm_that_is_not_positive_is_refused(norm):
    with pytest.raises(UserError, match="--clip-gradients: expected a positive norm"):
        TrainSettings(clip_gradients=norm)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_gradients": 1.0}, "--clip-gradients is not set in .*, not 1.0"),
        ({"alpha_schedule": "10:0.5"}, "--alpha-schedule is not set in .*, not 10:0.5"),
    ],
)
def test_changed_options_are_refused_on_resume(tmp_path, tiny, change, message):
    run(tmp_path, tiny, epochs=1)
    with pytest.raises(UserError, match=message):
        run(tmp_path, tiny, resume=True, epochs=1, **change)


def test_a_run_from_before_these_options_can_be_resumed(tmp_path, tiny, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(Trainer, patch, 5)
        with pytest.raises(Interrupted):
            run(tmp_path, tiny, epochs=2)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    for name in ("clip_gradients", "alpha_schedule", "tensorboard"):
        del config["settings"][name]
    path.write_text(json.dumps(config))
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        del state["epoch_phase_seconds"]
        torch.save(state, path)
    directory, _ = run(tmp_path, tiny, resume=True, epochs=2)
    assert [record["epoch"] for record in directory.metrics()] == [0, 1, 2]


def scripted(monkeypatch, accuracies):
    """The test accuracies of the epochs to come."""
    values = iter(accuracies)
    monkeypatch.setattr("dainv.training.trainer.accuracy", lambda *_, **__: {"loss": 1.0, "accuracy": next(values)})


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.1, 0.5, 0.4, 0.5), 4), ((0.1, 0.2, 0.3, 0.4), 12), ((0.4, 0.4, 0.1, 0.3), 0)]
)
def test_the_best_checkpoint_is_the_first_of_the_highest_test_accuracy(tmp_path, tiny, monkeypatch, accuracies, best):
    scripted(monkeypatch, accuracies)
    directory, _ = run(tmp_path, tiny, epochs=3)
    assert RunDirectory.open(directory.path, "best").load_checkpoint()["step"] == best
    assert [path.name for path in directory.checkpoints()] == ["step-000000008.pt", "step-000000012.pt"]
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


def test_the_record_says_where_the_time_went(tmp_path, tiny):
    directory, _ = run(tmp_path, tiny, epochs=1)
    before, after = directory.metrics()
    assert before["phase_seconds"]["data"] is None
    assert before["phase_seconds"]["evaluation"] > 0
    phases = after["phase_seconds"]
    assert list(phases) == ["data", "update", "evaluation"]
    assert all(seconds > 0 for seconds in phases.values())
    assert phases["data"] + phases["update"] <= after["seconds"]


def test_phases_of_an_interrupted_epoch_add_up(tmp_path, tiny, monkeypatch):
    interrupt_at(Trainer, monkeypatch, 1)
    with pytest.raises(Interrupted):
        run(tmp_path, tiny, epochs=1)
    before = RunDirectory.open(tmp_path / "run").load_checkpoint()["epoch_phase_seconds"]
    monkeypatch.undo()
    directory, _ = run(tmp_path, tiny, resume=True, epochs=1)
    after = directory.metrics()[-1]["phase_seconds"]
    assert all(after[name] > before[name] > 0 for name in ("data", "update"))


def test_data_of_one_class_are_refused(tiny):
    one = ImageSplit(tiny.train.images, torch.full_like(tiny.train.labels, 3))
    with pytest.raises(
        UserError, match=r"^tiny: all 64 training images are of one class \(3\); expected two at least$"
    ):
        Trainer(TrainSettings(**SMALL), ImageData("tiny", one, tiny.test, tiny.classes), Recorder())


def test_an_evaluation_that_overflows_stops_the_run_and_says_where():
    record = {"epoch": 2, "train": {"loss": 1.0}, "test": {"loss": 1.0}, "control": {"invariance": {"a": 0.5}}}
    check_record(record)
    with pytest.raises(UserError, match="epoch 2: the loss on the test images is not a finite number"):
        check_record({**record, "test": {"loss": float("inf")}})
    with pytest.raises(UserError, match="epoch 2: the invariance loss of a is not"):
        check_record({**record, "control": {"invariance": {"a": float("nan")}}})


def test_of_several_processes_a_signal_that_comes_twice_is_one(capsys):
    """A Ctrl-C reaches them from the terminal, and again from torchrun."""
    with StopSignals(announce=False, several=True) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received
    with StopSignals(announce=False):  # alone: the second one means now
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("wrong", [["--batch-size", "63"], ["--epochs", "many"], ["--nothing"]])
def test_rank_0_tells_a_mistake_that_all_processes_meet(monkeypatch, wrong):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        assert CliRunner().invoke(main, ["train", *wrong]).exit_code in (1, 2)
        assert len(waits) == rank  # torchrun ends the others meanwhile
