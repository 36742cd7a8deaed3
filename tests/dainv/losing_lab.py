"""Starts runs that die, and compares what becomes of them with a run that never stopped, bit by bit."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from losing_runs import Job

from dainv.runs import RunDirectory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, /proc and resource limits")

KILLS = int(os.environ.get("DAINV_KILLS", "0"))
SEED = int(os.environ.get("DAINV_KILLS_SEED", "0"))
OPTIONS = ["--width", "0.05", "--views", "4", "--device", "cpu", "--deterministic"]
EPOCHS, STEPS_PER_EPOCH = 3, 5
EVERY_STEP = ["--checkpoint-minutes", "0"]
DIFFERS = re.compile("second|memory")  # what may differ between two runs: how long it took


class Lab:
    """Starts runs on a small data set: three epochs of five updates."""

    def __init__(self, folder, server):
        self.folder, self.server, self.started = folder, server, 0
        rng = np.random.default_rng(0)
        arrays = {}
        for part, number in (("train", 40), ("test", 16)):
            arrays[f"x_{part}"] = rng.integers(0, 256, (number, 16, 16, 3), dtype=np.uint8)
            arrays[f"y_{part}"] = np.arange(number) % 10
        np.savez(folder / "data.npz", **arrays)

    def job(self, run, *extra, frequent=True, **fault):
        """Starts the run where it does not exist, and resumes it where it does."""
        if (Path(run) / "config.json").exists():
            arguments = ["train", "--resume", "--run-dir", str(run)]
        else:
            arguments = ["train", "--data", str(self.folder / "data.npz"), "--run-dir", str(run), *OPTIONS]
            arguments += ["--batch-size", "8", "--epochs", str(EPOCHS), *(EVERY_STEP if frequent else [])]
        self.started += 1
        return Job([*arguments, *extra], str(run), str(self.folder / f"output-{self.started}"), **fault)

    def __call__(self, run, *extra, **options):
        """How the run ended, and what it said on stderr; `output` has the rest."""
        job = self.job(run, *extra, **options)
        code = self.server(job)
        self.output = Path(job.output).read_text()
        return code, Path(job.output + ".err").read_text()

    def finish(self, run, *extra, **options):
        code, errors = self(run, *extra, **options)
        assert code == 0, errors
        return errors


def read_trace(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def copy(run, folder):
    return Path(shutil.copytree(run, folder / "run"))


def checkpoints(run):
    return sorted((run / "checkpoints").glob("step-*.pt"))


def read(checkpoint):
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def differences(a, b, where="checkpoint"):
    """Where two states differ in a bit, durations apart."""
    if DIFFERS.search(where):
        return []
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__} and {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
        return [] if same else [f"{where}: other values"]
    if isinstance(a, dict):
        if list(a) != list(b):
            return [f"{where}: keys {list(a)} and {list(b)}"]
        return [line for key in a for line in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f"{where}: {len(a)} and {len(b)} entries"]
        return [line for i, pair in enumerate(zip(a, b, strict=True)) for line in differences(*pair, f"{where}[{i}]")]
    return [] if a == b or (a != a and b != b) else [f"{where}: {a} and {b}"]


def bits(tensor):
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def records(run):
    """Strictly: each line of metrics.jsonl is a record."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def check_readable(run):
    """What holds after a death at any moment, once a run directory exists."""
    if not (run / "config.json").exists():
        return
    opened = RunDirectory.open(run)
    assert opened.config["settings"]["deterministic"] is True
    json.loads((run / "environment.json").read_text())
    epochs = [record["epoch"] for record in opened.metrics()]
    assert epochs == list(range(len(epochs)))
    for checkpoint in checkpoints(run):
        assert f"{read(checkpoint)['step']:09d}" in checkpoint.name
    assert len(checkpoints(run)) <= 3  # the third is there before the oldest goes


def check_same(run, whole, epochs=EPOCHS):
    """What holds at the end."""
    found, expected = checkpoints(run), checkpoints(whole)
    assert len(found) <= 2
    assert found[-1].name == expected[-1].name
    assert differences(read(found[-1]), read(expected[-1])) == []
    assert [record["epoch"] for record in records(run)] == list(range(epochs + 1))
    assert differences(records(run), records(whole), "metrics") == []
    assert json.loads((run / "config.json").read_text()) == json.loads((whole / "config.json").read_text())


def check_one_line(code, errors, expected=1):
    assert code == expected, errors
    assert "Traceback" not in errors
    assert re.fullmatch(r"error: [^\n]+\n", errors), errors


def while_writing_a_record(moments, epoch):
    """The last moment before the record of an epoch is written, and the bytes of metrics.jsonl then."""
    sizes = sorted({m["metrics"] for m in moments})
    return max(m["moment"] for m in moments if m["metrics"] == sizes[epoch]), sizes[epoch]


def contents(run):
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}
