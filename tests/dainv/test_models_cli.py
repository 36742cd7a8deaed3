import numpy as np
import pytest
from click.testing import CliRunner

from dainv.cli import main

TRAIN = ["--data", "digits", "--batch-size", "8", "--views", "4", "--steps", "2", "--device", "cpu"]


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks_of_mine.py").write_text(
        "import torch\n"
        "class Recurrent(torch.nn.Module):\n"
        "    def __init__(self, n_classes=10):\n"
        "        super().__init__()\n"
        "        self.a_layer_with_a_name_that_no_narrow_table_has_room_for_in_a_column = torch.nn.Flatten(2)\n"
        "        self.lstm, self.head = torch.nn.LSTM(64, 8, batch_first=True), torch.nn.Linear(8, n_classes)\n"
        "    def forward(self, x):\n"
        "        x = self.a_layer_with_a_name_that_no_narrow_table_has_room_for_in_a_column(x)\n"
        "        return self.head(self.lstm(x)[0].mean(1))\n"
        "def half():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).half()\n"
    )
    return tmp_path


def test_layers_says_what_cannot_be_tapped_and_shows_whole_names(here):
    result = invoke("layers", "networks_of_mine:Recurrent", "--image-size", 8)
    assert result.exit_code == 0, result.output
    lines = {line.split()[1]: line for line in result.output.splitlines() if line.startswith("│")}
    assert "a_layer_with_a_name_that_no_narrow_table_has_room_for_in_a_column" in lines
    assert "a tuple" in lines["lstm"]
    assert "none" in lines["lstm"]
    assert " 10 " in lines["head"]
    assert "name some with --layers" in result.output


def test_layers_of_a_float16_model(here):
    result = invoke("layers", "networks_of_mine:half", "--image-size", 8)
    assert result.exit_code == 0, result.output
    assert "4 × 6 × 6" in result.output


def test_layers_says_which_are_tapped_and_which_are_overwritten():
    output = invoke("layers", "resnet18", "--pattern", "layer1.0*").output
    assert "tapped if none are named: layer1.0, layer1.1, layer2.0" in output
    assert "overwritten in place" in next(line for line in output.splitlines() if "layer1.0.bn1" in line)


def test_layers_takes_weights_and_channels(here):
    result = invoke("layers", "wrn-10-1", "--channels", 1, "--weights", "none.pt")
    assert (result.exit_code, result.output) == (1, "error: none.pt: no such file\n")
    assert "block3" in invoke("layers", "wrn-10-1", "--channels", 1, "--image-size", 8).output


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "wrn-10-1"],
        ["--model", "wrn-10-1", "--layers", "block?.relu2", "--layers", "block3", "--fused"],
        ["--model", "networks_of_mine:Recurrent", "--layers", "head"],
    ],
    ids=["blocks", "relus", "function"],
)
def test_other_networks_train_and_are_evaluated(here, options):
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    np.savez("small.npz", x_train=images, y_train=np.arange(24) % 3, x_test=images[:6], y_test=np.arange(6) % 3)
    result = invoke("train", *TRAIN, "--data", "small.npz", *options, "--run-dir", "run")
    assert result.exit_code == 0, result.output
    evaluated = invoke("evaluate", "run", "--device", "cpu")
    assert evaluated.exit_code == 0, evaluated.output
    assert "test" in evaluated.output
    other = invoke("evaluate", "run", "--data", "digits", "--device", "cpu")
    assert (other.exit_code, other.output) == (1, "error: digits has 10 classes, run was trained on 3\n")
    begun = invoke("train", *TRAIN, "--data", "small.npz", "--model", "run", "--run-dir", "next")
    assert begun.exit_code == 0, begun.output


def test_what_cannot_be_trained_leaves_no_run(here):
    for options, message in (
        (["--model", "squeezenet1_1"], "name some with --layers"),
        (["--model", "resnet18", "--layers", "layer1.0.bn1"], "overwritten by an operation in place"),
    ):
        result = invoke("train", *TRAIN, *options, "--run-dir", "run")
        assert result.exit_code == 1
        assert message in result.output
        assert not (here / "run").exists()
