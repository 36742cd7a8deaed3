"""docs/reproduction.md shows what the committed runs say."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RUNS = DOCS / "reproduction" / "epoch-1"
PAGE = (DOCS / "reproduction.md").read_text()


def block(name):
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE, re.DOTALL)[1].splitlines()[2:]


def first_epoch(run):
    records = [json.loads(line) for line in (RUNS / run / "metrics.jsonl").read_text().splitlines()]
    return list(records[1]["train"]["invariance"].values())


def test_the_table_of_the_first_epoch_comes_from_the_runs():
    rows = [[float(cell) for cell in line.strip("| ").split("|")] for line in block("epoch-1")]
    assert [row[0] for row in rows] == list(range(1, 10))
    for column, run in ((2, "baseline"), (4, "invariance"), (5, "invariance-nearest")):
        assert [row[column] for row in rows] == pytest.approx(first_epoch(run), abs=0.00501)


def test_every_layer_of_both_arms_is_as_near_to_the_figure_as_the_page_says():
    assert "lies within .055 of the figure" in PAGE
    rows = [[float(cell) for cell in line.strip("| ").split("|")] for line in block("epoch-1")]
    for column, run in ((1, "baseline"), (3, "invariance")):
        for row, value in zip(rows, first_epoch(run), strict=True):
            assert abs(value - row[column]) <= 0.055


def test_times_and_memory_come_from_the_runs():
    measured = [json.loads(path.read_text()) for path in sorted(RUNS.glob("*.resources.json"))]
    expected = [
        f"| `{m['command']}` | {m['wall_seconds'] / 60:.0f} min | {m['peak_memory_mib'] / 1024:.1f} GiB |"
        for m in measured
    ]
    assert block("resources") == expected


def test_published_data_name_no_folder_of_a_machine():
    for path in RUNS.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".csv", ".html", ".svg"):
            assert not re.search(r"/(work|root|home|tmp|Users)/", path.read_text()), path
