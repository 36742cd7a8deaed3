"""Where the commands write to: other encodings than UTF-8, narrow pipes and full disks."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dainv.cli import main


@pytest.mark.parametrize(
    ("encoding", "arguments", "expected"),
    [
        ("ascii", ["layers", "allcnn", "--pattern", "layer1"], "96 x 32 x 32"),
        ("cp1252", ["layers", "allcnn", "--pattern", "layer1"], "96 × 32 × 32"),
        ("cp1252", ["score", "--help"], "sigma of each transformation"),
        ("cp1252", ["layers", "σ.net"], "no model 'sigma.net'"),
    ],
)
def test_what_the_output_cannot_encode_is_written_in_ascii(encoding, arguments, expected):
    result = CliRunner(charset=encoding).invoke(main, arguments)
    assert isinstance(result.exception, SystemExit | None)
    assert expected in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["layers", "allcnn"]], ids=["help", "layers"])
def test_a_full_disk_is_a_line(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dainv", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written (No space left on device)\n"


def test_a_table_of_many_layers_is_whole_in_a_pipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("deep.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4), *(nn.Linear(4, 4) for _ in range(12)))\n"
    )
    options = ["--data", "digits", "--images", "8", "--layers", "*", "--device", "cpu"]
    result = CliRunner().invoke(main, ["cka", "deep:net", *options])
    assert result.exit_code == 0, result.output
    rows = [line.strip("┃│").split("┃" if "┃" in line else "│") for line in result.stdout.splitlines()]
    table = [[cell.strip() for cell in row] for row in rows if len(row) > 1]
    assert table[0] == ["layer", *map(str, range(14))]
    assert [row[0] for row in table[1:]] == table[0][1:]
    assert {len(row) for row in table} == {15}
    assert table[3][3] == "1.00"


def test_a_wide_table_of_scores_is_whole_in_a_pipe():
    options = ["--data", "digits", "--images", "4", "--device", "cpu", "--by", "transformation"]
    schemes = ["heavier", "half-extremes", "light", "half-extremes-released"]
    options += [word for name in schemes for word in ("--transform", name)]
    result = CliRunner().invoke(main, ["score", "allcnn", *options])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) > 80
    rows = [line.split() for line in result.stdout.splitlines() if line.strip().startswith("layer")]
    heads = [row for row in rows if row[0] == "layer"]
    assert heads[0] == ["layer", "D", *schemes]
    assert heads[1][:3] == ["layer", "rotation", "shift"]
    assert [row[0] for row in rows if row[0] != "layer"] == [f"layer{n}" for n in range(1, 10)] * 2
    for row in rows[1:10]:
        assert len(row) == 2 + 2 * len(schemes)  # median and quartiles
