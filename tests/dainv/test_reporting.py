"""What training prints, and that a run goes on where it cannot be."""

import errno
import io
import os

import pytest
from rich.console import Console
from training_runs import SMALL

from dainv.reporting import ConsoleReporter
from dainv.settings import TrainSettings
from dainv.training import train


class Unwritable(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error, self.tried = error, 0

    def write(self, _text):
        self.tried += 1
        raise self.error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), BrokenPipeError()], ids=["full", "closed"])
def test_a_run_does_not_end_because_its_log_cannot_be_written(tmp_path, tiny, monkeypatch, error):
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # by which rich would put an end to the output of these tests
    log = Unwritable(error)
    settings = TrainSettings(**SMALL, epochs=1)
    with ConsoleReporter(Console(file=log)) as reporter:
        made = train(settings, tiny, str(tmp_path / "run"), reporter, resume=False)
    assert [record["epoch"] for record in made.metrics()] == [0, 1]
    assert log.tried == 1 if isinstance(error, BrokenPipeError) else 2  # a full disk may have room again
