"""A run that dies in the middle of a write, or finds the disk full, ends in the bits of one that never stopped."""

import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from losing_lab import (
    KILLS,
    SEED,
    check_one_line,
    check_readable,
    check_same,
    linux,
    while_writing_a_record,
)
from losing_runs import environment

pytestmark = linux


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
