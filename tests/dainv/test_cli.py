import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from dainv import names
from dainv.cli import main
from dainv_kernels import backends

TRAIN = ["--data", "digits", "--width", "0.05", "--batch-size", "16", "--views", "4", "--device", "cpu"]


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    result = invoke("train", *TRAIN, "--steps", 4, "--run-dir", path)
    assert result.exit_code == 0, result.output
    return path


def test_train_prints_a_line_an_epoch_where_no_terminal_is(run_dir, tmp_path):
    result = invoke("train", *TRAIN, "--steps", 95, "--run-dir", tmp_path / "run")
    lines = [line for line in result.output.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3  # before any update, a whole epoch of 90 updates, five more
    assert "\x1b" not in result.output
    assert "run directory:" in result.output


def test_evaluate_agrees_with_the_last_record(run_dir):
    result = invoke("evaluate", run_dir, "--device", "cpu")
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert result.exit_code == 0
    assert f"{100 * last['test']['accuracy']:.2f} %" in result.output


def test_evaluate_says_that_the_data_have_changed(run_dir, tmp_path):
    assert "has changed" not in invoke("evaluate", run_dir, "--device", "cpu").stderr
    shutil.copytree(run_dir, tmp_path / "run")
    config = json.loads((run_dir / "config.json").read_text())
    config["data"]["sha256"] = "0" * 64
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert invoke("evaluate", tmp_path / "run", "--device", "cpu").stderr == (
        "warning: digits has changed since run was trained on it\n"
    )


def test_evaluate_takes_the_best_checkpoint(run_dir):
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    result = invoke("evaluate", run_dir, "--device", "cpu", "--checkpoint", "best")
    assert result.exit_code == 0
    assert f"{100 * max(record['test']['accuracy'] for record in records):.2f} %" in result.output
    assert "best" in result.output


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_best_checkpoint_that_cannot_be_read_is_one_line(run_dir, tmp_path, damage):
    shutil.copytree(run_dir, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    if damage == "missing":
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:1000])
    result = invoke("evaluate", tmp_path / "run", "--device", "cpu", "--checkpoint", "best")
    assert result.exit_code == 1
    assert "best.pt" in result.output
    assert "--checkpoint newest" in result.output
    assert result.output.count("\n") == 1
    assert invoke("evaluate", tmp_path / "run", "--device", "cpu").exit_code == 0


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("train", *TRAIN, "--epochs", 350, "--dry-run", "--run-dir", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "90 an epoch, 31,500 in all (350 epochs)" in result.output
    assert "nothing was written" in result.output
    assert "\x1b" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("train", "--dry-run")
    assert result.exit_code == 1
    assert "cifar10: not in data" in result.output
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_layers_lists_names_shapes_and_dimensions():
    result = invoke("layers", "allcnn", "--pattern", "layer?")
    assert result.exit_code == 0
    assert "98,304" in result.output
    assert "192 × 8 × 8" in result.output


def test_layers_takes_torchvision_models_runs_and_functions(run_dir, tmp_path, monkeypatch):
    assert "layer1.0.conv1" in invoke("layers", "resnet18", "--image-size", 64).output
    assert "layer9" in invoke("layers", run_dir).output
    (tmp_path / "mine.py").write_text("import torch\ndef net():\n    return torch.nn.Sequential(torch.nn.Flatten())\n")
    monkeypatch.chdir(tmp_path)
    assert "3072" in invoke("layers", "mine:net").output.replace(",", "")


def test_env_names_versions_and_backends():
    output = invoke("env").output
    for word in ("torch", "commit", "backends.triton", "cpu"):
        assert word in output


MISTAKES = {
    "no such data": (["train", "--data", "nothing.npz"], "nothing.npz: no such file"),
    "unknown data": (["train", "--data", "imagenot"], "cifar10"),
    "batch no multiple of views": (["train", "--data", "digits", "--batch-size", "10", "--views", "4"], "multiple"),
    "unknown scheme": (["train", "--data", "digits", "--augmentation", "strong"], "heavier"),
    "unknown device": (["train", "--data", "digits", "--device", "tpu9"], "--device tpu9"),
    "unknown backend": (["train", "--backend", "fast"], "error: --backend: expected one of auto, reference, torch, "),
    "alpha beyond 1": (["train", "--data", "digits", "--alpha-schedule", "0:11"], "alpha would become 1.1 at epoch 0"),
    "norm of 0": (["train", "--data", "digits", "--clip-gradients", "0"], "--clip-gradients: expected a positive"),
    "too little memory": (["train", "--data", "digits", "--width", "1e12", "--device", "cpu"], "out of memory (for"),
    "resume without a run": (["train", "--resume"], "--run-dir"),
    "resume of nothing": (["train", "--resume", "--run-dir", "nothing"], "no such run directory"),
    "evaluate of nothing": (["evaluate", "nothing"], "no such run directory"),
    "analysis of nothing": (["analyze", "nothing"], "no such run directory"),
    "unknown model": (["layers", "resnet19"], "resnet18"),
    "unknown model and width": (["train", "--data", "digits", "--model", "resnet19", "--width", "2"], "resnet18"),
    "width of another model": (["train", "--data", "digits", "--model", "resnet18", "--width", "2"], "of allcnn"),
    "no such run as a model": (["layers", "runs/invarience"], "error: runs/invarience: no such run directory"),
    "no such layer": (["layers", "allcnn", "--pattern", "layr1"], "layer1"),
    "no such function": (["layers", "os:nothing"], "nothing"),
    "image too small": (["layers", "alexnet", "--image-size", "4"], "does not accept"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_in_one_line(name, tmp_path, monkeypatch):
    arguments, message = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_the_help_of_train_names_the_backends():
    assert names.BACKENDS == backends.BACKENDS
    assert f"Insist on one: {', '.join(names.BACKENDS)}." in " ".join(invoke("train", "--help").output.split())


def test_wrong_usage_exits_2():
    assert invoke("train", "--epochs", "many").exit_code == 2
    assert invoke("trian").exit_code == 2
    assert invoke("analyze").exit_code == 2


def test_an_existing_run_directory_is_refused(run_dir):
    for data in ("digits", "no data either"):
        result = invoke("train", "--data", data, "--run-dir", run_dir)
        assert result.exit_code == 1
        assert "exists already; continue it with --resume" in result.output


def test_a_setting_changed_on_resume_is_named(run_dir):
    result = invoke("train", "--resume", "--run-dir", run_dir, "--seed", 3)
    assert result.exit_code == 1
    assert "--seed is 0" in result.output


def test_resume_takes_the_settings_from_the_run(run_dir):
    result = invoke("train", "--resume", "--run-dir", run_dir)
    assert result.exit_code == 0, result.output
    assert "all 4 steps are done" in result.output


def test_bad_npz_leaves_no_run_directory(tmp_path):
    np.savez(tmp_path / "bad.npz", x_train=np.zeros(3))
    result = invoke("train", "--data", tmp_path / "bad.npz", "--run-dir", tmp_path / "run")
    assert result.exit_code == 1
    assert not (tmp_path / "run").exists()


def test_python_dash_m_is_the_same_command():
    result = subprocess.run([sys.executable, "-m", "dainv", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("dainv, version")
