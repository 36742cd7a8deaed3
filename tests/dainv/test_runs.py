import errno
import json
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from dainv import UserError
from dainv.runs import RunDirectory, write_atomically


def new_run(path):
    return RunDirectory.create(path, {"layers": ["layer1"]}, {"python": "3"})


def state(step):
    return {"step": step, "model": {"weight": torch.full((3,), float(step))}}


def test_what_was_saved_comes_back(tmp_path):
    run = new_run(tmp_path / "run")
    run.append_metrics({"epoch": 0, "step": 0})
    run.save_checkpoint(state(7))
    again = RunDirectory.open(tmp_path / "run")
    assert again.config == {"format": 1, "layers": ["layer1"]}
    assert again.environment == {"python": "3"}
    assert again.metrics() == [{"epoch": 0, "step": 0}]
    assert again.load_checkpoint()["model"]["weight"].tolist() == [7.0] * 3


def test_a_run_directory_moves(tmp_path):
    new_run(tmp_path / "here").save_checkpoint(state(1))
    (tmp_path / "here").rename(tmp_path / "there")
    assert RunDirectory.open(tmp_path / "there").load_checkpoint()["step"] == 1


@pytest.mark.parametrize("how", ["append_metrics", "save_checkpoint", "save_best"])
def test_a_run_that_is_moved_while_it_trains_is_not_begun_anew_at_its_old_place(tmp_path, how):
    run = new_run(tmp_path / "here")
    run.save_checkpoint(state(1))
    run.path.rename(tmp_path / "there")
    with pytest.raises(UserError, match=r"here: moved or removed meanwhile.*--resume"):
        getattr(run, how)(state(2))
    assert not run.path.exists()
    assert RunDirectory.open(tmp_path / "there").load_checkpoint()["step"] == 1


def test_existing_directories_are_not_overwritten(tmp_path):
    new_run(tmp_path / "run")
    with pytest.raises(UserError, match="--resume"):
        new_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    new_run(tmp_path / "empty")


def test_what_is_no_run_directory_is_said(tmp_path):
    with pytest.raises(UserError, match="no such run directory"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(UserError, match="not a run directory"):
        RunDirectory.open(tmp_path)


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    run = new_run(tmp_path / "run")
    for step in (1, 2, 30):
        run.save_checkpoint(state(step))
    assert [p.name for p in run.checkpoints()] == ["step-000000002.pt", "step-000000030.pt"]


def test_checkpoints_are_in_the_order_of_their_steps_however_many(tmp_path):
    run = new_run(tmp_path / "run")
    for step in (999_999_999, 1_000_000_000):
        run.save_checkpoint(state(step))
    assert run.load_checkpoint()["step"] == 1_000_000_000


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_damaged_checkpoint_does_not_count_among_the_two(tmp_path, looked_at):
    run = new_run(tmp_path / "run")
    for step in (1, 2):
        run.save_checkpoint(state(step))
    run.checkpoints()[-1].write_bytes(b"PK")
    run = RunDirectory.open(tmp_path / "run")  # in another process
    if looked_at:
        assert run.load_checkpoint()["step"] == 1
    run.save_checkpoint(state(3))
    assert [p.name for p in run.checkpoints()] == ["step-000000001.pt", "step-000000003.pt"]
    run.save_checkpoint(state(4))
    assert [p.name for p in run.checkpoints()] == ["step-000000003.pt", "step-000000004.pt"]


def test_damaged_checkpoints_go_only_when_two_good_ones_are_there(tmp_path):
    run = new_run(tmp_path / "run")
    for step in (1, 2):
        run.save_checkpoint(state(step))
    for path in run.checkpoints():
        path.write_bytes(b"PK")
    run = RunDirectory.open(tmp_path / "run")
    run.save_checkpoint(state(3))
    assert len(run.checkpoints()) == 3
    run.save_checkpoint(state(4))
    assert [p.name for p in run.checkpoints()] == ["step-000000003.pt", "step-000000004.pt"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_checkpoint_is_passed_over_and_said_so(tmp_path, damage):
    run = new_run(tmp_path / "run")
    run.save_checkpoint(state(1))
    run.save_checkpoint(state(2))
    newest = run.checkpoints()[-1]
    content = bytearray(newest.read_bytes())
    if damage == "truncate":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    else:
        place = content.find(torch.full((3,), 2.0).numpy().tobytes())
        assert place > 0
        content[place] ^= 0xFF
    newest.write_bytes(bytes(content))
    warnings = []
    assert run.load_checkpoint(warn=warnings.append)["step"] == 1
    assert len(warnings) == 1
    assert "step-000000002.pt is damaged" in warnings[0]


def test_no_readable_checkpoint_is_an_error(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(UserError, match="no readable checkpoint"):
        run.load_checkpoint()


def test_checkpoints_are_not_unpickled(tmp_path):
    run = new_run(tmp_path / "run")
    run.save_checkpoint(state(1))

    class Evil:
        def __reduce__(self):
            return (print, ("unpickled",))

    torch.save({"step": 2, "model": Evil()}, run.path / "checkpoints" / "step-000000002.pt")
    warnings = []
    assert run.load_checkpoint(warn=warnings.append)["step"] == 1
    assert len(warnings) == 1


def test_a_torn_record_is_left_out(tmp_path):
    run = new_run(tmp_path / "run")
    run.append_metrics({"epoch": 0, "step": 0})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 1, "st')
    assert run.metrics() == [{"epoch": 0, "step": 0}]


def test_a_record_damaged_on_the_disk_costs_no_other(tmp_path):
    run = new_run(tmp_path / "run")
    for epoch in range(3):
        run.append_metrics({"epoch": epoch, "step": 10 * epoch})
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"epoch": 1,', b'{"epoch"\xff 1,'))
    assert [record["epoch"] for record in run.metrics()] == [0, 2]


def test_resuming_drops_records_after_the_checkpoint(tmp_path):
    run = new_run(tmp_path / "run")
    for epoch in range(3):
        run.append_metrics({"epoch": epoch, "step": 10 * epoch})
    run.keep_metrics_until(10)
    run.append_metrics({"epoch": 2, "step": 20})
    assert [record["epoch"] for record in run.metrics()] == [0, 1, 2]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("No space left on device")

    with pytest.raises(UserError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("after", [0, 2, 5])
def test_an_interruption_while_a_checkpoint_is_written_is_one(tmp_path, after):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    class Interrupted:
        def __init__(self, file):
            self.file, self.writes = file, 0

        def write(self, content):
            if self.writes == after:
                raise KeyboardInterrupt
            self.writes += 1
            return self.file.write(content)

        def flush(self):
            self.file.flush()

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, lambda file: torch.save({"weight": torch.zeros(10_000)}, Interrupted(file)))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nan_never_reaches_a_json_file(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        new_run(tmp_path / "run").append_metrics({"loss": float("nan")})


FULL_DISK = """
import resource, sys, torch
from dainv.errors import UserError
from dainv.runs import RunDirectory
run = RunDirectory.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    run.save_checkpoint({"step": 2, "model": {"weight": torch.rand(1_000_000)}})
except UserError as error:
    print(error)
"""


def test_a_checkpoint_that_does_not_fit_keeps_the_old_ones(tmp_path):
    run = new_run(tmp_path / "run")
    run.save_checkpoint(state(1))
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(run.path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written ([Errno 27] File too large" in result.stdout
    assert run.load_checkpoint()["step"] == 1
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step-000000001.pt"]


def test_config_is_plain_json(tmp_path):
    run = new_run(tmp_path / "run")
    assert json.loads((run.path / "config.json").read_text()) == run.config


needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")
_HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print(); input()"
)


@contextmanager
def held_by_another(run):
    """The lock of a run directory, in another process."""
    command = [sys.executable, "-c", _HOLD, str(run.path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        yield other
        other.kill()


@needs_locks
def test_a_run_directory_has_one_process_that_trains(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.locked():
        another = subprocess.run(
            [sys.executable, "-c", _HOLD, str(run.path / ".lock")], capture_output=True, check=False
        )
        assert b"BlockingIOError" in another.stderr
    with held_by_another(run) as other:
        with pytest.raises(UserError, match="run: another process is training in this run directory"), run.locked():
            raise AssertionError("locked twice")
        other.kill()  # SIGKILL
        other.wait()
        with run.locked():
            RunDirectory.create(run.path, {}, {})  # a lock alone does not make it one that exists already


@needs_locks
def test_without_locks_a_run_goes_on_and_says_so(tmp_path, monkeypatch):
    def refuse(_file, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    messages = []
    with RunDirectory(tmp_path / "run").locked(messages.append):
        pass
    assert len(messages) == 1
    assert "has no locks (No locks available)" in messages[0]
