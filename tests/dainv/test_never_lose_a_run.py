"""A run that dies at any moment, or loses its disk or some bytes, ends in the bits of one that never stopped.

The ordinary run kills a few times. `DAINV_KILLS=200 pytest tests/dainv/test_never_lose_a_run.py` kills so many times
more, at moments that follow from `DAINV_KILLS_SEED` (0).
"""

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from losing_runs import Job, Server, environment

import dainv
import dainv_kernels
from dainv import UserError
from dainv.runs import RunDirectory

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, /proc and resource limits")

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

    def finish(self, run, *extra):
        code, errors = self(run, *extra)
        assert code == 0, errors
        return errors


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Server() as server:
        yield Lab(tmp_path_factory.mktemp("lab"), server)


@pytest.fixture(scope="module")
def whole(lab):
    """The run that never stopped; `moments` lists its moments."""
    run, trace = lab.folder / "whole", lab.folder / "trace"
    code, errors = lab(run, trace=str(trace))
    assert code == 0, errors
    return run


@pytest.fixture(scope="module")
def moments(lab, whole):
    return read_trace(lab.folder / "trace")


@pytest.fixture(scope="module")
def seldom(lab):
    """The moments of a run whose only checkpoints are those of the epochs."""
    assert lab(lab.folder / "seldom", frequent=False, trace=str(lab.folder / "seldom-trace"))[0] == 0
    return read_trace(lab.folder / "seldom-trace")


@pytest.fixture(scope="module")
def interrupted(lab, whole, moments):
    """A run killed in the middle of its second epoch, with two checkpoints; to be copied."""
    run = lab.folder / "interrupted"
    steps = [m["moment"] for m in moments if m["call"] == "step" and m["when"] == "before"]
    assert lab(run, at=steps[8])[0] == -9
    assert len(checkpoints(run)) >= 2
    return run


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


# What the other tests stand on


def test_a_process_of_its_own_that_saves_seldom_ends_in_the_same_bits(lab, whole, tmp_path):
    """Not forked, other hash seeds, no checkpoint but those of the epochs."""
    job = lab.job(tmp_path / "run", frequent=False)
    subprocess.run([sys.executable, "-m", "dainv", *job.arguments], check=True, env=environment(), capture_output=True)
    found = read(checkpoints(tmp_path / "run")[-1])
    assert differences(found, read(checkpoints(whole)[-1])) == []
    assert differences(records(tmp_path / "run"), records(whole), "metrics") == []


def test_a_checkpoint_holds_what_the_issue_lists(whole):
    """A state left out would show in other bits, unless nothing depended on it in so short a run."""
    state = read(checkpoints(whole)[-1])
    assert {"model", "optimizer", "step"} <= set(state)
    assert state["step"] == EPOCHS * STEPS_PER_EPOCH
    assert "momentum_buffer" in str(state["optimizer"])
    text = str(list(state)).lower()
    assert "generator" in text or "rng" in text or "random" in text


def test_files_are_synced_before_they_are_renamed(moments):
    """Every file that gets its name by a rename was synced after it was written."""
    renames = [i for i, m in enumerate(moments) if m["call"] in ("replace", "rename") and m["when"] == "before"]
    names = [moments[i]["name"] for i in renames]
    assert sum("step-" in name for name in names) >= EPOCHS * STEPS_PER_EPOCH
    for start, end in zip([0, *renames], renames, strict=False):
        assert any(m["call"] in ("fsync", "fdatasync") for m in moments[start:end]), moments[start : end + 1]
    opened = {m["name"] for m in moments if m["call"] == "open"}
    assert not [name for name in opened if re.fullmatch(r"checkpoints/step-\d+\.pt", name)]


# Killed


def kill_until_done(lab, run, whole, moments, rng, kills):
    """Kills a run and its continuations at random moments and finishes it; returns how often it died."""
    died = 0
    for _ in range(kills):
        kind = rng.choice(["kill", "kill", "kill-write", "kill-write", "clock", "SIGTERM", "SIGINT", "full"])
        at = rng.randint(1, max(2, len(moments) // 2))
        fault = {"at": at, "fault": kind}
        if kind == "clock":
            fault = {"after": rng.uniform(0, 1.0)}
        elif kind in ("kill-write", "full"):
            fault["size"] = int(10 ** rng.uniform(3 if kind == "kill-write" else 3.7, 5))
        code, errors = lab(run, **fault)
        assert "Traceback" not in errors, (fault, errors)
        assert code in (0, 1, 130, -9, -2, -15, -25), (fault, code, errors)
        check_readable(run)
        died += code != 0
        if code == 0 and (run / "config.json").exists():
            break
    lab.finish(run)
    check_same(run, whole)
    return died


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again(lab, whole, moments, tmp_path, seed):
    assert kill_until_done(lab, tmp_path / "run", whole, moments, random.Random(seed), 3) > 0


@pytest.mark.skipif(KILLS == 0, reason="DAINV_KILLS=N for N more deaths at random moments")
@pytest.mark.timeout(60 + 20 * KILLS)
def test_killed_very_often(lab, whole, moments, tmp_path):
    rng, died, number = random.Random(SEED), 0, 0
    while died < KILLS:
        run = tmp_path / f"run-{number}"
        died += kill_until_done(lab, run, whole, moments, rng, rng.randint(1, 6))
        shutil.rmtree(run)
        number += 1


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_killed_around_a_call(lab, whole, moments, tmp_path, call):
    """Just before or just after one such call of the first half of the run."""
    chosen = [m["moment"] for m in moments[: len(moments) // 2] if m["call"] == call]
    assert lab(tmp_path / "run", at=random.Random(call).choice(chosen))[0] == -9
    check_readable(tmp_path / "run")
    lab.finish(tmp_path / "run")
    check_same(tmp_path / "run", whole)


@pytest.mark.parametrize("fault", ["kill", "SIGINT"])
@pytest.mark.parametrize("call", ["open", "replace"])
def test_stopped_while_the_run_directory_is_made(lab, whole, moments, tmp_path, call, fault):
    """A file is in it, perhaps a temporary one, but it is no run yet: the same command has to start it."""
    at = next(m["moment"] for m in moments if m["call"] == call and m["when"] == "after")
    assert lab(tmp_path / "run", at=at, fault=fault)[0] == {"kill": -9, "SIGINT": 130}[fault]
    lab.finish(tmp_path / "run")
    check_same(tmp_path / "run", whole)


@pytest.mark.skipif(KILLS == 0, reason="DAINV_KILLS=N")
@pytest.mark.timeout(1200)
def test_killed_before_the_first_checkpoint(lab, whole, moments, tmp_path):
    """At each moment from the first to the renaming of the first checkpoint."""
    first = next(m["moment"] for m in moments if "step-" in m["name"] and m["call"] == "replace")
    for at in range(1, first + 3):
        run = tmp_path / f"run-{at}"
        assert lab(run, at=at)[0] == -9
        check_readable(run)
        lab.finish(run)
        check_same(run, whole)


def while_writing_a_record(moments, epoch):
    """The last moment before the record of an epoch is written, and the bytes of metrics.jsonl then."""
    sizes = sorted({m["metrics"] for m in moments})
    return max(m["moment"] for m in moments if m["metrics"] == sizes[epoch]), sizes[epoch]


@pytest.mark.parametrize("fault", ["kill-write", "full"])
def test_lost_in_the_middle_of_a_record(lab, whole, moments, tmp_path, fault):
    at, size = while_writing_a_record(moments, 2)
    code, errors = lab(tmp_path / "run", at=at, fault=fault, size=size + 100)
    if fault == "full":
        check_one_line(code, errors)
    else:
        assert code == -25
    check_readable(tmp_path / "run")
    lab.finish(tmp_path / "run")
    check_same(tmp_path / "run", whole)


@pytest.mark.parametrize("fault", ["kill-write", "full"])
def test_lost_in_the_middle_of_a_checkpoint(lab, whole, moments, tmp_path, fault):
    saves = [m["moment"] for m in moments if m["call"] == "save" and m["when"] == "before"]
    code, errors = lab(tmp_path / "run", at=saves[7], fault=fault, size=10_000)
    if fault == "full":
        check_one_line(code, errors)
        assert not [p for p in (tmp_path / "run").rglob("*") if p.is_file() and "tmp" in p.name]
    else:
        assert code == -25
    check_readable(tmp_path / "run")
    lab.finish(tmp_path / "run")
    check_same(tmp_path / "run", whole)


@pytest.mark.skipif(KILLS == 0, reason="DAINV_KILLS=N; test_training.py has a shorter one")
def test_real_processes_killed_at_random_times(tmp_path):
    """The embedded digits, `python -m dainv`, SIGKILL by the clock."""
    start = [sys.executable, "-m", "dainv", "train", "--data", "digits", *OPTIONS, "--epochs", "2"]
    start += ["--batch-size", "128", "--checkpoint-minutes", "0.001"]

    def run(path):
        resume = [*start[:4], "--resume"] if (path / "config.json").exists() else start
        return subprocess.Popen(
            [*resume, "--run-dir", str(path)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    whole, path = tmp_path / "whole", tmp_path / "run"
    process = run(whole)
    assert process.wait() == 0, process.communicate()
    rng = random.Random(SEED)
    for _ in range(2):
        process = run(path)
        before = checkpoints(path)[-1:]
        while checkpoints(path)[-1:] == before and process.poll() is None:
            time.sleep(0.01)  # until it gets on
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.communicate()
        check_readable(path)
    process = run(path)
    output = process.communicate()
    assert process.returncode == 0, output
    check_same(path, whole, epochs=2)


# Asked to stop


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_in_mid_epoch_saves_there_and_exits_130(lab, whole, seldom, tmp_path, name):
    """No checkpoints but those of the epochs, so that the one near step 8 is the signal's."""
    run = tmp_path / "run"
    step = [m["moment"] for m in seldom if m["call"] == "step" and m["when"] == "after"][7]
    code, errors = lab(run, frequent=False, at=step, fault=name)
    assert code == 130
    assert "Traceback" not in errors
    assert "--resume" in errors
    assert read(checkpoints(run)[-1])["step"] in (7, 8, 9)
    check_readable(run)
    lab.finish(run)
    assert differences(read(checkpoints(run)[-1]), read(checkpoints(whole)[-1])) == []
    assert differences(records(run), records(whole), "metrics") == []


@pytest.mark.parametrize(("name", "call"), [("SIGTERM", "save"), ("SIGINT", "replace")])
def test_a_signal_while_a_checkpoint_is_written(lab, whole, moments, tmp_path, name, call):
    chosen = [m for m in moments if m["call"] == call and (call == "save" or "step-" in m["name"])]
    code, errors = lab(tmp_path / "run", at=chosen[11]["moment"], fault=name)
    assert code == 130
    assert "Traceback" not in errors
    check_readable(tmp_path / "run")
    lab.finish(tmp_path / "run")
    check_same(tmp_path / "run", whole)


# A full disk


def test_a_full_file_system(lab, whole, moments, tmp_path):
    """A real one, of two megabytes, that fills up at three moments: ENOSPC."""
    disk, results = tmp_path / "disk", tmp_path / "results"
    disk.mkdir()
    results.mkdir()
    rng = random.Random(SEED)
    late = [m["moment"] for m in moments if m["call"] == "step"]
    at = [1, rng.choice(late), while_writing_a_record(moments, 2)[0], *rng.choices(late, k=KILLS // 10)]
    jobs = []
    for number, moment in enumerate(at):
        run = disk / f"run-{number}"
        first = lab.job(run, at=moment, fault="fill", size=rng.choice([0, 4096, 20480]))
        again = lab.job(run)
        resume = replace(lab.job(run), arguments=["train", "--resume", "--run-dir", str(run)])
        jobs.append([vars(first), [vars(again), vars(resume)]])
    request = json.dumps({"disk": str(disk), "results": str(results), "jobs": jobs})
    mount = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'
    program = [sys.executable, str(Path(__file__).with_name("losing_runs.py")), request]
    mounted = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*mounted, mount, str(disk), "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    subprocess.run([*mounted, mount, str(disk), *program], check=True, env=environment())
    codes = json.loads((results / "codes.json").read_text())
    for number, (filled, finished) in enumerate(codes):
        errors = Path(jobs[number][0]["output"] + ".err").read_text()
        check_one_line(filled, errors)
        assert "space" in errors, errors
        if (results / f"{number}-full").exists():
            check_readable(results / f"{number}-full")
        assert finished == 0
        check_same(results / f"{number}-end", whole)


# Damage


def flip(content, rng):
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def truncate(content, rng):
    del content[rng.randrange(len(content)) :]


def zero(content, rng):
    """A block never reached the disk."""
    start = rng.randrange(len(content)) // 512 * 512
    end = min(len(content), start + 4096)
    content[start:end] = bytes(end - start)


def test_no_damage_goes_unnoticed(interrupted, tmp_path):
    """Whatever happens to the newest checkpoint, what is loaded is it or the one before, to the bit."""
    run = copy(interrupted, tmp_path)
    previous, newest = checkpoints(run)[-2:]
    good, states = newest.read_bytes(), [read(newest), read(previous)]
    rng = random.Random(SEED)
    passed_over = 0
    for number in range(300 + 20 * KILLS):
        damage = (flip, truncate, zero)[number % 3]
        content = bytearray(good)
        damage(content, rng)
        newest.write_bytes(content)
        warnings = []
        loaded = RunDirectory.open(run).load_checkpoint(warn=warnings.append)
        expected = states[bool(warnings)]
        assert differences(loaded, expected) == [], (number, damage.__name__)
        if warnings:
            assert len(warnings) == 1
            assert newest.name in warnings[0]
        passed_over += bool(warnings)
    assert passed_over > 200


@pytest.mark.parametrize("damage", [flip, truncate, "empty", "delete"])
def test_a_damaged_newest_checkpoint_costs_no_bit(lab, whole, interrupted, tmp_path, damage):
    run = copy(interrupted, tmp_path)
    newest = checkpoints(run)[-1]
    content = bytearray(newest.read_bytes())
    if damage == "delete":
        newest.unlink()
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        damage(content, random.Random(2))
        newest.write_bytes(content)
    errors = lab.finish(run)
    if damage != "delete":
        assert newest.name in lab.output + errors
    check_same(run, whole)


@pytest.mark.parametrize("at", [3, 9])
def test_killed_again_after_a_damaged_checkpoint(lab, whole, interrupted, tmp_path, at):
    """The damaged one must not take the place of a good one among the two that are kept."""
    run = copy(interrupted, tmp_path)
    newest = checkpoints(run)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert lab(run, at=at)[0] == -9
    assert any(loads(checkpoint) for checkpoint in checkpoints(run))
    lab.finish(run)
    check_same(run, whole)


def loads(checkpoint):
    try:
        return bool(read(checkpoint))
    except Exception:
        return False


def test_without_a_readable_checkpoint_it_says_so(lab, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    for checkpoint in checkpoints(run):
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    before = contents(run)
    check_one_line(*lab(run))
    assert contents(run) == before


def contents(run):
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("tail", [b'{"epoch": 2, "st', b'{"epoch": 2, "step": 10}', b"\0" * 700, b'{"epoch": 2\xff'])
def test_a_torn_last_record(lab, whole, interrupted, tmp_path, tail):
    run = copy(interrupted, tmp_path)
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(tail)
    check_readable(run)
    lab.finish(run)
    check_same(run, whole)


def test_leftovers_of_the_dead_do_not_matter(lab, whole, interrupted, tmp_path):
    """Temporary files of any name, and a file that only looks like a checkpoint."""
    run = copy(interrupted, tmp_path)
    newest = checkpoints(run)[-1]
    for name in (f".{newest.name}.tmp", f"{newest.name}.tmp", "step-000000014.pt.abc123", "tmpabcdef", ".tmp"):
        (newest.parent / name).write_bytes(newest.read_bytes()[:5000])
    (run / ".metrics.jsonl.tmp").write_bytes(b"{")
    lab.finish(run)
    check_same(run, whole)


def test_many_deaths_in_mid_write_leave_no_heap_of_temporary_files(lab, whole, moments, tmp_path):
    run = tmp_path / "run"
    at = [m["moment"] for m in moments if m["call"] == "save" and m["when"] == "before"][2]
    assert lab(run, at=at)[0] == -9
    for _ in range(3):
        assert lab(run, at=1, fault="kill-write", size=20_000)[0] == -25
    lab.finish(run)
    check_same(run, whole)
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert {name for name in names if not re.fullmatch(r"step-\d+\.pt|best\.pt", name)} == set()


def test_a_run_that_moved(lab, whole, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(run, tmp_path / "elsewhere" / "renamed"))
    lab.finish(moved)
    check_same(moved, whole)
    assert str(lab.folder / "interrupted") not in (moved / "config.json").read_text()


# What is refused

CHANGES = {
    "--alpha": "0.2",
    "--seed": "1",
    "--learning-rate": "0.02",
    "--batch-norm": None,
    "--batch-size": "16",
    "--views": "2",
    "--width": "0.1",
    "--epochs": "4",
    "--momentum": "0.8",
    "--weight-decay": "0.001",
    "--augmentation": "light",
    "--interpolation": "nearest",
    "--spread": "5",
    "--scheme": "linear",
    "--normalization": "printed",
}


def test_changed_settings_are_refused_by_name(lab, whole, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    before = contents(run)
    for option, value in list(CHANGES.items())[: None if KILLS else 4]:
        code, errors = lab(run, option, *([value] if value else []))
        check_one_line(code, errors)
        assert option in errors
        assert contents(run) == before
    lab.finish(run, "--alpha", "0.1", "--epochs", str(EPOCHS))  # the same again is no change
    check_same(run, whole)


def test_other_data_of_the_same_name_are_refused(lab, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    with np.load(lab.folder / "data.npz") as archive:
        arrays = dict(archive)
    arrays["x_train"][0, 0, 0, 0] ^= 1
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "data.npz", **arrays)
    before = contents(run)
    check_one_line(*lab(run, "--data", str(tmp_path / "other" / "data.npz")))
    assert contents(run) == before


def test_the_run_is_not_started_anew_without_resume(lab, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    before = contents(run)
    arguments = ["train", "--data", str(lab.folder / "data.npz"), "--run-dir", str(run), *OPTIONS, "--epochs", "1"]
    job = replace(lab.job(run), arguments=arguments)
    code = lab.server(job)
    check_one_line(code, Path(job.output + ".err").read_text())
    assert contents(run) == before


# Nothing is unpickled


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_run(interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    previous, newest = checkpoints(run)[-2:]
    state = read(newest)
    for legacy in (False, True):
        torch.save({**state, "model": Evil(tmp_path / "evil")}, newest, _use_new_zipfile_serialization=not legacy)
        warnings = []
        assert RunDirectory.open(run).load_checkpoint(warn=warnings.append)["step"] == read(previous)["step"]
        assert len(warnings) == 1
        assert not (tmp_path / "evil").exists()
    for checkpoint in (previous, newest):
        torch.save(Evil(tmp_path / "evil"), checkpoint)
    with pytest.raises(UserError):
        RunDirectory.open(run).load_checkpoint(warn=warnings.append)
    assert not (tmp_path / "evil").exists()


def test_files_are_loaded_without_unpickling():
    """In the source: `torch.load` with weights_only=True, `np.load` without allow_pickle, no pickle at all."""
    loads = 0
    for package in (dainv, dainv_kernels):
        for path in Path(package.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                    assert not {"pickle", "cPickle", "dill", "joblib", "cloudpickle"} & set(names), path
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    if ast.unparse(node.func) == "torch.load":
                        loads += 1
                        assert options.get("weights_only") == "True", (path, node.lineno)
                    else:
                        assert options.get("allow_pickle", "False") == "False", (path, node.lineno)
    assert loads > 0
