"""docs/reproduction.md shows what the committed runs say."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from reproduction_evidence import both, published

from dainv import UserError
from dainv.reproduction.claims import verdicts
from dainv.reproduction.docs import fill_in_place, filled
from dainv.reproduction.report import report
from dainv.reproduction.summary import summary
from dainv.summaries import Box, Estimate

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
    for path in (DOCS / "reproduction").rglob("*"):
        if path.suffix in (".json", ".jsonl", ".csv", ".html", ".svg"):
            assert not re.search(r"/(work|root|home|tmp|Users)/", path.read_text()), path


def test_blocks_of_reproductions_come_from_the_committed_results():
    assert filled(PAGE, DOCS) == PAGE


def test_every_committed_reproduction_is_on_the_page():
    folders = {path.parent.relative_to(DOCS).as_posix() for path in DOCS.glob("reproduction/*/summary.json")}
    assert folders
    assert folders == set(re.findall(r"^<!-- reproduction: (\S+) -->", PAGE, re.MULTILINE))
    assert folders == set(re.search(r"^<!-- claims: (.+) -->", PAGE, re.MULTILINE)[1].split())


ABOUT = {
    "warnings": [],
    "changed_settings": {},
    "scoring": {"transform": "half-extremes-released", "repeats": 5, "images": 10_000},
    "data": {"name": "cifar10", "n_train": 50_000, "n_test": 10_000, "sha256": "0" * 64},
    "trained_with_commits": {"0" * 40: ["baseline-seed0", "invariance-seed0"]},
    "environment": {
        "commit": "0" * 40,
        "uncommitted_changes": False,
        "cuda_devices": [],
        "cpu": "a processor",
        "cpu_count": 2,
        "libraries": {"torch": "2.15.0", "triton": None},
    },
}


@pytest.fixture
def found():
    arms = both()
    for runs in arms.values():
        runs[0] = runs[0].__class__(**{**vars(runs[0]), "curves": runs[0].curves[:3]})
    return summary(arms, verdicts(arms["baseline"], arms["invariance"], []), [], ABOUT)


def test_a_block_is_filled_from_its_summary_and_only_it(found, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "summary.json").write_text(json.dumps(found))
    text = "before\n<!-- reproduction: full -->\nstale\n<!-- /reproduction -->\nafter\n"
    (tmp_path / "page.md").write_text(text)
    fill_in_place(tmp_path / "page.md")
    once = (tmp_path / "page.md").read_text()
    assert once.startswith("before\n<!-- reproduction: full -->\n")
    assert once.endswith("<!-- /reproduction -->\nafter\n")
    assert "stale" not in once
    assert "1 seed an arm on cifar10, 350 of the published 350 epochs, the published recipe. How" in once
    assert "| 91.50 % (90.90 to 92.10 %) |" in once
    assert filled(once, tmp_path) == once


def test_the_first_table_has_the_papers_recipe_and_each_scaled_one(found, tmp_path):
    scaled = {**found, "epochs": 40, "changed_settings": {"width": 0.25, "batch_norm": True}}
    for name, summary_of in (("full", found), ("scaled", scaled)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary_of))

    def table(*names):
        text = filled(f"<!-- claims: {' '.join(names)} -->\n<!-- /claims -->\n", tmp_path)
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[1:-1]]
        return {row[0]: row[1:] for row in rows}

    alone, both_of_them = table("scaled"), table("scaled", "full")
    short = "[40 epochs, `--width 0.25 --batch-norm`](scaled/report.md), 1 seed"
    assert alone["claim of the paper"] == ["the published recipe, 350 epochs", short]
    whole = "[the published recipe, 350 epochs](full/report.md), 1 seed"
    assert both_of_them["claim of the paper"] == [whole, short]
    depth = next(claim for claim in alone if "rises with depth" in claim)
    time = next(claim for claim in alone if "training time" in claim)
    assert alone[depth] == ["not run", "**holds**"]
    assert both_of_them[depth] == ["**holds**", "**holds**"]
    assert alone[time] == both_of_them[time] == ["not run", ""]
    assert len(alone) == 2 + len(found["claims"])


def test_a_block_without_results_is_said_in_a_line(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.summary\.json: not the summary of a reproduction"):
        filled("<!-- reproduction: nowhere -->\n<!-- /reproduction -->", tmp_path)


def test_the_page_of_a_full_run_does_not_say_scaled_and_one_of_a_short_run_does(found):
    assert "Scaled" not in report(found)
    assert "| verdict |" in report(found)
    for change in ({"epochs": 3}, {"changed_settings": {"width": 0.5}}, {"data": {**found["data"], "name": "digits"}}):
        assert "**Scaled: 1 seed an arm" in report({**found, **change})
        assert "| in these runs |" in report({**found, **change})
    assert "How much seeds differ is not known from one." in report(found)
    assert "How much seeds differ" not in report({**found, "seeds": [0, 1, 2]})


def test_two_seeds_are_shown_with_their_spread_and_their_commits():
    arms = both(2)
    arms["baseline"][1] = published("baseline", 1, accuracy=Estimate(0.925, 0.92, 0.93))
    moved = {layer: Box(*(value + 0.02 for value in box)) for layer, box in arms["baseline"][1].boxes.items()}
    arms["baseline"][1] = replace(arms["baseline"][1], boxes=moved)
    about = {**ABOUT, "trained_with_commits": {"a" * 40: ["baseline-seed0"], "b" * 40: ["baseline-seed1"]}}
    page = report(summary(arms, verdicts(arms["baseline"], arms["invariance"], []), [], about))
    assert "2 seeds an arm on cifar10" in page
    assert "How much seeds differ is not known from one, and hardly from two." in page
    assert "| baseline | 1 | 91.5 % | 91.48 % | 92.50 % (92.00 to 93.00 %) |" in page
    assert "| baseline | mean of 2 | 91.5 % | 91.48 % | 92.00 % (lowest 91.50 %, highest 92.50 %) |" in page
    assert "| 1 | 0.485 | 0.495 (0.485 to 0.505) | +0.010 " in page
    assert "here, means over 2 seeds, each seed as a point." in page
    assert f"| trained with commit | {'a' * 40}: baseline-seed0 |" in page
    assert f"| trained with commit | {'b' * 40}: baseline-seed1 |" in page
