"""What a user may ask of training beside the published run: other schedules, clipping, phases; what is refused."""

import errno
import io
import json
import os
import signal
import sys
from copy import deepcopy
from dataclasses import asdict, fields

import pytest
import torch
from click.testing import CliRunner
from training_runs import SMALL, Recorder, comparable, interrupted, run, weights_of

from dainv import UserError, layer_weights
from dainv.cli import main
from dainv.data import ImageData, ImageSplit
from dainv.runs import RunDirectory
from dainv.settings import RESUMABLE, TrainSettings
from dainv.signals import StopSignals
from dainv.training import Trainer
from dainv.training.checks import check_record
from dainv.training.resume import refuse_changes

RELEASED = "0:10,10:0.1,87:0.1,175:0.1,262:0"  # loss01_decay of the released code


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
    trainer.prepare_epoch(1)
    for one in (trainer, baseline):
        one.update()
    for ours, theirs in zip(trainer.model.parameters(), baseline.model.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("step", [2, 5, 9])
def test_a_run_with_every_option_resumes_to_the_same_bits(tmp_path, tiny, monkeypatch, step):
    options = {"epochs": 3, "alpha_schedule": "100:5,230:0.1", "clip_gradients": 0.05, "learning_rate": 0.1}
    whole, _ = run(tmp_path, tiny, "whole", **options)
    interrupted(monkeypatch, step, tmp_path, tiny, "stopped", **options)
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


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_norm_that_is_not_positive_is_refused(norm):
    with pytest.raises(UserError, match="--clip-gradients: expected a positive number"):
        TrainSettings(clip_gradients=norm)


@pytest.fixture
def started(tmp_path):
    """A run that was started with the default settings, and what it would be started with now."""
    config = {"settings": asdict(TrainSettings()), "data": {"sha256": "0"}, "processes": 1}
    return RunDirectory.create(tmp_path / "run", config, {}), deepcopy(config)


@pytest.mark.parametrize("name", [field.name for field in fields(TrainSettings)])
def test_what_decides_the_result_is_refused_by_name_on_resume_and_nothing_else(started, name):
    run, now = started
    was = now["settings"][name]
    now["settings"][name] = not was if isinstance(was, bool) else 3 if was is None else was * 2 if was else 5
    if name in RESUMABLE:
        refuse_changes(run, now)
        return
    with pytest.raises(UserError, match=f"^--resume: --{name.replace('_', '-')} is .* in .*, not ") as refusal:
        refuse_changes(run, now)
    assert "\n" not in str(refusal.value)


def test_local_statistics_go_on_with_as_many_processes_only(started):
    run, now = started
    now["processes"] = 2
    refuse_changes(run, now)
    config = run.config
    for one in (config, now):
        one["settings"]["invariance_scope"] = "local"
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"--invariance-scope local goes on with .*: 1, not 2"):
        refuse_changes(run, now)


def test_a_run_from_before_these_options_can_be_resumed(tmp_path, tiny, monkeypatch):
    interrupted(monkeypatch, 5, tmp_path, tiny, epochs=2)
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
    interrupted(monkeypatch, 1, tmp_path, tiny, epochs=1)
    before = RunDirectory.open(tmp_path / "run").load_checkpoint()["epoch_phase_seconds"]
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


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP")
def test_a_terminal_that_closes_asks_to_stop_and_its_second_signal_does_not_mean_now(monkeypatch):
    """It sends SIGHUP, its shell another one, and what is said can no longer be written."""

    class Gone(io.StringIO):
        def write(self, _text):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not signals.received
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("wrong", [["--batch-size", "63"], ["--epochs", "many"], ["--nothing"]])
def test_rank_0_tells_a_mistake_that_all_processes_meet(monkeypatch, wrong):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        assert CliRunner().invoke(main, ["train", *wrong]).exit_code in (1, 2)
        assert len(waits) == rank  # torchrun ends the others meanwhile


def test_before_any_update_a_network_is_looked_at_as_it_trains(tmp_path, tiny):
    """Dropout and batch statistics on, also where the network comes in eval mode."""
    first = [
        run(tmp_path / name, tiny, model=f"training_runs:{name}", layers=("*.relu",), width=1.0, steps=1)[0].metrics()[
            0
        ]["train"]
        for name in ("small_network", "network_in_eval_mode")
    ]
    assert first[0] == first[1]


def test_layers_inside_a_checkpoint_are_refused_in_one_line(tmp_path, tiny):
    with pytest.raises(UserError, match=r"inside a torch\.utils\.checkpoint; choose layers outside"):
        run(tmp_path, tiny, model="training_runs:CheckpointedNetwork", layers=("first.relu",), width=1.0, steps=1)


def test_what_cannot_be_deterministic_is_named_in_one_line(tmp_path, tiny):
    options = {"model": "training_runs:network_by_chance", "layers": ("*.relu",), "width": 1.0, "steps": 1}
    with pytest.raises(UserError, match=r"^--deterministic: put_ does not have a deterministic implementation here;"):
        run(tmp_path, tiny, **options)
    torch.use_deterministic_algorithms(False)
    run(tmp_path, tiny, "other", deterministic=False, **options)
