"""Memory that a step frees and the next one takes again: kept by the process, or mapped anew."""

import json
import os
import platform
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dainv.cli import main
from dainv.malloc import keep_freed_memory

# Page faults and losses of some updates of a network whose activations take 48 MiB.
UPDATES = """
import json, resource
from dainv.malloc import keep_freed_memory
kept = keep_freed_memory()
import torch
torch.set_num_threads(1)
from training_runs import tiny_data, trainer_of
trainer = trainer_of(
    tiny_data(), model="training_runs:wide_network", layers=("relu",), width=1.0, batch_size=512, views=8
)
first = [trainer.update().tolist() for _ in range(4)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rows = [trainer.update().tolist() for _ in range(3)]
print(json.dumps([kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, first + rows]))
"""


def updates(**variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}
    made = subprocess.run([sys.executable, "-c", UPDATES], env=environment, capture_output=True, text=True, check=True)
    return json.loads(made.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_steps_that_keep_their_memory_have_few_page_faults_and_the_same_losses():
    kept, faults, losses = updates()
    asked_not_to, usual_faults, usual_losses = updates(MALLOC_ARENA_MAX="8")  # glibc's own default: changes nothing
    assert kept
    assert not asked_not_to
    assert losses == usual_losses
    assert faults < usual_faults / 10


@pytest.mark.parametrize("library", ["", "musl"])
def test_another_c_library_is_left_alone(monkeypatch, library):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, ""))
    assert not keep_freed_memory()


def test_training_on_a_cpu_asks_for_it_once_the_data_are_loaded(monkeypatch):
    asked = []
    monkeypatch.setattr("dainv.malloc.keep_freed_memory", lambda: asked.append(True))
    too_large = ["--batch-size", "16384", "--views", "8"]  # found after the data are loaded
    found = CliRunner().invoke(main, ["train", "--data", "digits", "--device", "cpu", "--dry-run", *too_large])
    assert "cannot be drawn from" in found.output
    assert asked == [True]
    CliRunner().invoke(main, ["train", "--data", "nothing.npz", "--device", "cpu"])
    assert asked == [True]
