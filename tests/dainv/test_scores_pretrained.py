"""`--weights pretrained` without a network: a file where torch keeps what it has downloaded stands in for it."""

import json

import pytest
import torch
from click.testing import CliRunner
from torchvision import models

from dainv.cli import main
from dainv.scores import weights_fingerprint

NAME = "shufflenet_v2_x0_5"  # the smallest that torchvision has weights for
ASKED = ["--data", "digits", "--images", "6", "--layers", "stage?", "--repeats", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return models.get_model(NAME)


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Path of the file that torchvision downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / models.get_model_weights(NAME).DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    return path


def test_the_weights_that_torchvision_offers_are_scored(network, keep, tmp_path):
    torch.save(network.state_dict(), keep)
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["score", NAME, *ASKED, "--weights", "pretrained", "--out", str(out)])
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["provenance"]["model_sha256"] == weights_fingerprint(network.state_dict())
    assert summary["settings"]["weights"] == "pretrained"


class Malicious:
    def __reduce__(self):
        return print, ("unpickled",)


def test_what_was_downloaded_is_not_unpickled(keep):
    torch.save({"conv1.0.weight": Malicious()}, keep)
    result = CliRunner().invoke(main, ["score", NAME, *ASKED, "--weights", "pretrained"])
    assert result.exit_code == 1
    assert f"error: {NAME}: " in result.stderr
    assert result.stderr.count("\n") == 1
    assert "unpickled\n" not in result.stdout


def test_a_download_that_fails_is_a_line(keep, monkeypatch):
    def offline(*_arguments, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", offline)
    result = CliRunner().invoke(main, ["score", NAME, *ASKED, "--weights", "pretrained"])
    assert result.exit_code == 1
    expected = f"error: pretrained weights: {NAME}'s cannot be downloaded (Name or service not known); pass a file"
    assert result.stderr.splitlines()[-1] == expected
    assert result.stdout == ""  # that it downloads is said on stderr
    assert not keep.exists()
