import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from data_folders import image_folder
from training_runs import SMALL, Recorder, comparable, interrupted, run, weights_of

from dainv import UserError, layer_weights
from dainv.data import ImageData, load_data
from dainv.runs import RunDirectory
from dainv.settings import TrainSettings
from dainv.training import Trainer
from dainv.training.loop import run_epochs
from dainv_kernels import available_backends
from dainv_kernels.backends import choose_backend


def test_the_published_schedule():
    settings = TrainSettings()
    assert settings.steps_per_epoch(50_000) == 391
    assert settings.total_steps(50_000) == 136_850
    rates = [settings.learning_rate_at(epoch, 350) for epoch in (0, 199, 200, 249, 250, 299, 300, 349)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_milestones_scale_with_the_epochs():
    settings = TrainSettings()
    changes = [e for e in range(1, 35) if settings.learning_rate_at(e, 35) < settings.learning_rate_at(e - 1, 35)]
    assert changes == [20, 25, 30]
    assert settings.learning_rate_at(0, 1) == 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 12, "views": 8}, "multiple"),
        ({"views": 0}, "--views"),
        ({"epochs": 0}, "--epochs"),
        ({"steps": 0}, "--steps"),
        ({"alpha": 2.0}, "--alpha"),
        ({"batch_size": 1, "views": 1}, "at least 2"),
        ({"views": 1}, "--views 1: no image has two views"),
        ({"scheme": "cubic"}, "--scheme"),
        ({"learning_rate": 0.0}, "--learning-rate: expected a positive number"),
        ({"learning_rate": math.nan}, "--learning-rate: expected a positive number"),
        ({"learning_rate": math.inf}, "--learning-rate: expected a positive number"),
        ({"spread": math.nan}, "--spread"),
        ({"width": math.inf}, "--width"),
        ({"momentum": 1.0}, "--momentum: expected 0 or more, but less than 1"),
        ({"momentum": math.nan}, "--momentum"),
        ({"weight_decay": -0.1}, "--weight-decay: expected 0 or more"),
        ({"weight_decay": math.nan}, "--weight-decay"),
        ({"checkpoint_minutes": math.nan}, "--checkpoint-minutes"),
        ({"image_size": 0}, "--image-size"),
        ({"seed": -1}, "--seed: expected 0 to 4294967295"),
        ({"seed": 2**64}, "--seed"),
        ({"precision": "fp8"}, "--precision: expected one of fp32"),
    ],
)
def test_settings_that_cannot_be_trained_are_named(change, message):
    with pytest.raises(UserError, match=message):
        TrainSettings(**change)


def test_a_run_leaves_what_the_design_promises(tmp_path, tiny):
    directory, recorder = run(tmp_path, tiny, epochs=2)
    assert sorted(p.name for p in directory.path.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.json",
        "environment.json",
        "metrics.jsonl",
    ]
    config = directory.config
    assert config["settings"]["alpha"] == 0.1
    assert config["weights"] == pytest.approx(layer_weights(9))
    assert config["data"]["sha256"] == tiny.fingerprint()
    assert [(r["epoch"], r["step"]) for r in directory.metrics()] == [(0, 0), (1, 4), (2, 8)]
    assert directory.metrics() == recorder.records
    assert str(tmp_path) not in json.dumps(config) + json.dumps(directory.environment)


def test_records_hold_losses_of_training_and_control_batches(tmp_path, tiny):
    directory, recorder = run(tmp_path, tiny, epochs=1)
    before, after = directory.metrics()
    for record in (before, after):
        for part in ("train", "control"):
            losses = record[part]["invariance"]
            assert list(losses) == [f"layer{n}" for n in range(1, 10)]
            assert all(0 < loss < 1.5 for loss in losses.values())
        assert 0 <= record["test"]["accuracy"] <= 1
    assert before["train"]["task"] == pytest.approx(math.log(10), abs=0.02)
    assert after["train"]["loss"] == pytest.approx(np.mean(recorder.losses), rel=1e-6)
    assert before["control"] != after["control"]
    total = 0.9 * after["train"]["task"]
    total += sum(w * loss for w, loss in zip(layer_weights(9), after["train"]["invariance"].values(), strict=True))
    assert after["train"]["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_looking_before_the_first_update_changes_nothing(tiny, batch_norm, tmp_path):
    trainer = Trainer(TrainSettings(**SMALL, batch_norm=batch_norm, epochs=1), tiny, Recorder())
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    generator = trainer.draws.get_state()
    trainer.total_steps = 0  # nothing but the look
    run_epochs(trainer, RunDirectory.create(tmp_path / "run", trainer.config, {}), resume=False)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert torch.equal(trainer.draws.get_state(), generator)


def test_the_baseline_logs_the_same_curves_without_their_gradient(tmp_path, tiny):
    directory, _ = run(tmp_path, tiny, epochs=1, alpha=0.0)
    before, after = directory.metrics()
    assert all(loss > 0 for loss in after["train"]["invariance"].values())
    assert after["train"]["loss"] == pytest.approx(after["train"]["task"])
    invariance, _ = run(tmp_path, tiny, "invariance", epochs=1)
    assert invariance.metrics()[0]["train"]["invariance"] == before["train"]["invariance"]


def test_the_objective_makes_training_views_more_alike(tmp_path, tiny):
    final = {}
    for alpha in (0.0, 0.9):
        directory, _ = run(
            tmp_path, tiny, f"alpha{alpha}", epochs=40, alpha=alpha, batch_norm=True, width=0.1, learning_rate=0.05
        )
        final[alpha] = directory.metrics()[-1]["train"]["invariance"]["layer8"]
    assert final[0.9] < 0.7 * final[0.0]


def test_two_runs_end_in_the_same_bits(tmp_path, tiny):
    first, _ = run(tmp_path, tiny, "a", epochs=2)
    second, _ = run(tmp_path, tiny, "b", epochs=2)
    other, _ = run(tmp_path, tiny, "c", epochs=2, seed=1)
    assert torch.equal(weights_of(first), weights_of(second))
    assert not torch.equal(weights_of(first), weights_of(other))


@pytest.mark.parametrize("backend", ["torch", "native", "triton"])
def test_fifty_fused_and_unfused_steps_give_the_same_losses(tmp_path, tiny, backend):
    if backend not in available_backends():
        pytest.skip(f"{backend} does not work here")
    traces = {}
    for fused in (False, True):
        arm = {"fused": True, "backend": backend} if fused else {"backend": "torch"}
        _, recorder = run(tmp_path, tiny, f"fused-{fused}", steps=50, width=0.1, **arm)
        traces[fused] = recorder.losses
    assert len(traces[True]) == 50
    assert traces[True] == pytest.approx(traces[False], rel=1e-5)  # a gradient wrong by a per cent moves it by 1e-3


def test_fused_without_triton_says_so_once_and_trains(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("dainv_kernels.backends._why_not_triton", lambda: "no CUDA device")
    directory, recorder = run(tmp_path, tiny, epochs=1, fused=True)
    assert directory.config["backend"] == choose_backend("auto", torch.empty(1))
    assert len(recorder.messages) == 1
    assert "no CUDA device" in recorder.messages[0]
    with pytest.raises(UserError, match="no CUDA device"):
        run(tmp_path, tiny, "strict", epochs=1, backend="triton")


def test_a_nan_stops_the_run_and_names_step_and_layer_and_checkpoint(tmp_path, tiny):
    with pytest.raises(UserError, match=r"step \d+: the invariance loss of layer\d is not a finite number") as stop:
        run(tmp_path, tiny, epochs=50, learning_rate=1e6)
    kept = RunDirectory.open(tmp_path / "run").load_checkpoint()
    assert str(stop.value).endswith(f"the last good checkpoint is step-{kept['step']:09d}.pt")
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_an_update_that_ruins_the_weights_is_not_saved(tmp_path, tiny):
    """The losses of the last step of an epoch are finite; the weights it leaves are not."""
    with pytest.raises(UserError, match=r"step 1: the update made layer\d"):
        run(tmp_path, tiny, steps=1, learning_rate=3e38, momentum=0.99)
    directory = RunDirectory.open(tmp_path / "run")
    assert directory.load_checkpoint()["step"] == 0
    assert [record["epoch"] for record in directory.metrics()] == [0]


def test_images_that_are_streamed_train_as_those_in_memory(tmp_path, monkeypatch):
    """By processes that decode ahead, and stopped in the middle of an epoch; augmented after that, as all are."""
    folder = str(image_folder(tmp_path / "images", sizes=((8, 8),) * 16))
    weights = {}
    for stream in ("never", "always"):
        data = load_data(folder, stream=stream, workers=2)
        assert data.streamed == (stream == "always")
        interrupted(monkeypatch, 2, tmp_path, data, stream, epochs=2, batch_size=8)
        directory, _ = run(tmp_path, data, stream, resume=True, epochs=2, batch_size=8)
        weights[stream] = weights_of(directory), comparable(directory)
    assert torch.equal(weights["always"][0], weights["never"][0])
    assert weights["always"][1] == weights["never"][1]


def test_resuming_a_finished_run_changes_nothing(tmp_path, tiny):
    directory, _ = run(tmp_path, tiny, epochs=1)
    before, metrics = weights_of(directory), directory.metrics()
    run(tmp_path, tiny, resume=True, epochs=1)
    assert torch.equal(weights_of(directory), before)
    assert directory.metrics() == metrics


def test_other_data_are_refused_on_resume(tmp_path, tiny):
    run(tmp_path, tiny, epochs=1)
    other = ImageData("tiny", tiny.test, tiny.test, tiny.classes)
    with pytest.raises(UserError, match="other data"):
        run(tmp_path, other, resume=True, epochs=1)


def command(path, *extra):
    return [
        *(sys.executable, "-m", "dainv", "train", "--data", "digits", "--width", "0.05", "--batch-size", "16"),
        *("--views", "4", "--steps", "150", "--deterministic", "--checkpoint-minutes", "0.005"),
        *("--device", "cpu", "--run-dir", str(path), *extra),
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(path), check=True, capture_output=True)
    return RunDirectory.open(path)


def test_a_run_killed_again_and_again_ends_in_the_same_bits(tmp_path, uninterrupted):
    path = tmp_path / "run"
    rng = np.random.default_rng(0)
    kills = 0
    while True:
        resume = ["--resume"] if (path / "config.json").exists() else []
        process = subprocess.Popen(command(path, *resume), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if kills == 2:  # test_never_lose_killed.py does so at chosen moments, without the seconds of imports
                output = process.communicate(timeout=120)
                assert process.returncode == 0, output
                break
            checkpoints = path / "checkpoints"
            deadline = time.monotonic() + 60
            newest = max(checkpoints.glob("step-*.pt"), default=None)
            while max(checkpoints.glob("step-*.pt"), default=None) == newest and time.monotonic() < deadline:
                time.sleep(0.01)  # until it has begun to make progress
            time.sleep(rng.uniform(0, 0.5))
        finally:
            process.kill()
            process.wait()
        kills += 1
    resumed = RunDirectory.open(path)
    assert torch.equal(weights_of(resumed), weights_of(uninterrupted))
    assert comparable(resumed) == comparable(uninterrupted)


def test_sigterm_saves_the_state_and_exits_130(tmp_path, uninterrupted):
    path = tmp_path / "run"
    process = subprocess.Popen(command(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((path / "checkpoints").glob("step-*.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "dainv train --resume --run-dir" in errors
    subprocess.run(command(path, "--resume"), check=True, capture_output=True)
    assert torch.equal(weights_of(RunDirectory.open(path)), weights_of(uninterrupted))


def test_a_changed_setting_is_refused_on_resume(uninterrupted):
    result = subprocess.run(
        command(uninterrupted.path, "--resume", "--alpha", "0.2"), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "--alpha is 0.1" in result.stderr
    assert result.stderr.count("\n") == 1
