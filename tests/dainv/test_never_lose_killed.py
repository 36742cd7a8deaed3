"""A run that is killed at any moment, or asked to stop, ends in the bits of one that never stopped.

The ordinary run kills a few times. `DAINV_KILLS=200 pytest tests/dainv/test_never_lose_killed.py` kills so many times
more, at moments that follow from `DAINV_KILLS_SEED` (0).
"""

import random
import re
import shutil
import subprocess
import sys
import time

import pytest
from losing_lab import (
    EPOCHS,
    KILLS,
    OPTIONS,
    SEED,
    STEPS_PER_EPOCH,
    check_readable,
    check_same,
    checkpoints,
    differences,
    linux,
    read,
    records,
)
from losing_runs import environment

pytestmark = linux


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


def kill_until_done(lab, run, whole, moments, rng, kills, frequent=True):
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
        code, errors = lab(run, frequent=frequent, **fault)
        assert "Traceback" not in errors, (fault, errors)
        assert code in (0, 1, 130, -9, -2, -15, -25), (fault, code, errors)
        check_readable(run)
        died += code != 0
        if code == 0 and (run / "config.json").exists():
            break
    lab.finish(run, frequent=frequent)
    check_same(run, whole)
    return died


@pytest.mark.parametrize("frequent", [True, False])
def test_killed_again_and_again(lab, whole, moments, seldom, tmp_path, frequent):
    """Saved after every update, or so seldom that epochs whose records were written come again."""
    expected = (whole, moments) if frequent else (lab.folder / "seldom", seldom)
    assert kill_until_done(lab, tmp_path / "run", *expected, random.Random(0), 3, frequent) > 0


@pytest.mark.skipif(KILLS == 0, reason="DAINV_KILLS=N for N more deaths at random moments")
@pytest.mark.timeout(60 + 20 * KILLS)
def test_killed_very_often(lab, whole, moments, seldom, tmp_path):
    rng, died, number = random.Random(SEED), 0, 0
    while died < KILLS:
        run = tmp_path / f"run-{number}"
        frequent = rng.random() < 0.5
        expected = (whole, moments) if frequent else (lab.folder / "seldom", seldom)
        died += kill_until_done(lab, run, *expected, rng, rng.randint(1, 6), frequent)
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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
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
