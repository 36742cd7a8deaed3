"""A run whose files were damaged while it was stopped ends in the bits of one that never stopped, or says why not."""

import random
import shutil
from pathlib import Path

import pytest
from losing_lab import (
    KILLS,
    SEED,
    check_one_line,
    check_readable,
    check_same,
    checkpoints,
    contents,
    copy,
    differences,
    linux,
    read,
)

from dainv.runs import RunDirectory

pytestmark = linux


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


@pytest.mark.parametrize("tail", [b'{"epoch": 2, "st', b'{"epoch": 2, "step": 10}', b"\0" * 700, b'{"epoch": 2\xff'])
def test_a_torn_last_record(lab, whole, interrupted, tmp_path, tail):
    run = copy(interrupted, tmp_path)
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(tail)
    check_readable(run)
    lab.finish(run)
    check_same(run, whole)


def test_a_lost_record_in_the_middle_is_named(lab, whole, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"{garbage\n" + b"".join(lines[1:]))
    errors = lab.finish(run)
    assert "no readable record of epoch 0" in lab.output + errors
    epochs = [record["epoch"] for record in RunDirectory.open(run).metrics()]
    assert epochs == [record["epoch"] for record in RunDirectory.open(whole).metrics()][1:]


def test_leftovers_of_the_dead_do_not_matter(lab, whole, interrupted, tmp_path):
    """Temporary files of any name, and a file that only looks like a checkpoint."""
    run = copy(interrupted, tmp_path)
    newest = checkpoints(run)[-1]
    for name in (f".{newest.name}.tmp", f"{newest.name}.tmp", "step-000000014.pt.abc123", "tmpabcdef", ".tmp"):
        (newest.parent / name).write_bytes(newest.read_bytes()[:5000])
    (run / ".metrics.jsonl.tmp").write_bytes(b"{")
    lab.finish(run)
    check_same(run, whole)


def test_a_run_that_moved(lab, whole, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(run, tmp_path / "elsewhere" / "renamed"))
    lab.finish(moved)
    check_same(moved, whole)
    assert str(lab.folder / "interrupted") not in (moved / "config.json").read_text()
