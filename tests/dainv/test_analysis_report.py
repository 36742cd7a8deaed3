import base64
import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from analysis_runs import LAYERS, analyzed_run, arms_of, levels

from dainv.analysis.comparison import compare
from dainv.analysis.csv_tables import comparison_csv, scores_csv
from dainv.analysis.findings import Finding
from dainv.analysis.report import Drawing, report_html
from dainv.analysis.report.stylesheet import STYLESHEET
from dainv.analysis.results import Arm
from dainv.analysis.summary import summary_json
from dainv.formatting import number

VOID = {"meta", "img", "source", "br"}
DRAWING = Drawing(b"<svg>light</svg>", b"<svg>dark</svg>")


class Page(HTMLParser):
    """Checks that tags close in order, and keeps what the tests look at."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.tables = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def page_of(arms, warnings=(), downloads=None):
    text = report_html(
        arms,
        compare(arms),
        [Finding("Accuracy", "One finding.")],
        warnings,
        {"dainv": "0", "commit": "abc"},
        (DRAWING, DRAWING),
        downloads or {},
    )
    return text, Page(text)


@pytest.fixture
def two(tmp_path):
    return arms_of(analyzed_run(tmp_path, "base", alpha=0.0), analyzed_run(tmp_path, "inv", alpha=0.1))


@pytest.fixture
def seeds(tmp_path):
    """Two arms of two seeds each."""
    return [
        Arm(
            name,
            tuple(
                analyzed_run(
                    tmp_path,
                    f"{name}-{seed}",
                    alpha=alpha,
                    seed=seed,
                    label=f"{name}, seed {seed}",
                    sigma=levels(*[0.5] * 10, shift=alpha + 0.01 * seed),
                )
                for seed in (0, 1)
            ),
        )
        for name, alpha in (("baseline", 0.0), ("inv", 0.1))
    ]


def test_page_is_sound_and_asks_nothing_of_the_network(two):
    text, page = page_of(two, downloads={"scores.csv": b"a,b\n"})
    assert text.startswith("<!DOCTYPE html>")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object")
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert "url(" not in STYLESHEET
    assert "@import" not in STYLESHEET
    assert not re.search(r"https?://", text)
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy.split("script-src")[1]


def test_a_setting_that_is_younger_than_the_run_is_not_called_changed(two):
    for arm in two:
        for name in ("layers", "milestones"):
            del arm.runs[0].config["settings"][name]
    changed = re.findall(r"Settings changed</dt><dd>(.*?)</dd>", page_of(two)[0])
    assert len(changed) == 2
    for said in changed:
        assert "epochs 3 <small>(default 350)" in said
        assert not re.search("layers|milestones", said)


def test_figures_have_words_for_those_who_do_not_see_them(two):
    images = [attributes for tag, attributes in page_of(two)[1].tags if tag == "img"]
    assert len(images) == 2
    assert all(len(attributes["alt"]) > 100 for attributes in images)
    assert number(two[1].boxes["layer4"].median) in images[0]["alt"]
    assert number(two[1].dynamics.mean.train[-1, 3]) in images[1]["alt"]


def test_light_and_dark(two):
    text, page = page_of(two)
    assert "prefers-color-scheme: dark" in text
    sources = [attributes for tag, attributes in page.tags if tag == "source"]
    assert all("screen" in attributes["media"] for attributes in sources)  # paper is light
    assert len({attributes["srcset"] for attributes in sources}) == 1


def test_every_row_of_every_table_is_complete(two, seeds):
    for arms in (two, seeds):
        for table in page_of(arms)[1].tables:
            assert len(table) >= 2
            assert len({len(row) for row in table}) == 1


def test_tables_say_what_the_summaries_say(two):
    runs, differences, base, inv, losses, _ = page_of(two)[1].tables
    assert [row[0] for row in runs[1:]] == ["baseline", "data augmentation invariance"]
    for arm, table in ((two[0], base), (two[1], inv)):
        assert [row[0] for row in table[1:]] == ["input", *map(str, range(1, 10))]
        for row, summary in zip(table[1:], arm.runs[0].summaries.values(), strict=True):
            assert row[2].startswith(number(summary.median.value, 3))
            assert row[4] == f"{number(summary.box.q1, 3)}, {number(summary.box.q3, 3)}"
            assert row[6] == number(summary.mean, 3)
    (pair,) = compare(two)[0].pairs
    assert number(abs(pair.differences["layer5"].value), 3) in differences[5][3]
    assert number(abs(pair.tests["layer5"].effect), 2) in differences[5][5]
    assert losses[3][2] == number(two[0].dynamics.mean.train[0, 2], 3)


def test_columns_are_sorted_by_what_they_show(two):
    text, _ = page_of(two)
    median = two[0].runs[0].summaries["layer2"].median.value
    assert f'<td data-sort="{median:.9g}">{number(median, 3)} <small>' in text


def test_arms_with_several_runs_have_tables_of_their_own_and_runs_are_folded(seeds):
    text, page = page_of(seeds)
    said = " ".join("".join(page.text).split())
    assert "Baseline, 2 runs" in said
    assert "Inv minus baseline, over seeds" in said
    assert "Inv, seed 1 minus baseline, seed 1, image by image" in said
    assert text.count("<details><summary>") == 2 + 4 + 4  # pairs of runs, scores, how each was trained
    assert text.count("<details open>") == 1
    over_seeds = page.tables[1]
    assert over_seeds[1][:4] == ["1", "0.505", "0.605", "+0.100"]
    assert over_seeds[1][5] == "2 of 2"


def test_downloads_are_within_the_page(two, seeds):
    comparisons = compare(two)
    files = {
        "scores.csv": scores_csv([arm.runs[0] for arm in two]),
        "comparison.csv": comparison_csv([*comparisons, *compare(seeds)]),
        "summary.json": summary_json(two, comparisons, [], [], {}),
    }
    _, page = page_of(two, downloads=files)
    links = {attributes["download"]: attributes["href"] for tag, attributes in page.tags if tag == "a"}
    got = {name: base64.b64decode(link.partition("base64,")[2]) for name, link in links.items()}
    assert got == files
    rows = list(csv.DictReader(got["comparison.csv"].decode().splitlines()))
    assert [row["over"] for row in rows] == ["images"] * (9 + 18) + ["seeds"] * 9
    test = comparisons[0].pairs[0].tests["layer2"]
    assert (float(rows[1]["effect"]), float(rows[1]["p_holm"])) == (test.effect, test.p_holm)
    layers = json.loads(got["summary.json"])["comparisons"][0]["images"][0]["layers"]
    assert layers["layer2"]["effect"] == test.effect


def test_definitions_and_provenance_are_there(two):
    text = " ".join("".join(page_of(two)[1].text).split())
    run = two[0].runs[0]
    for needed in (
        "(Eq. 2)",
        "40 images × 2 transformations = 80 scores",
        "rotation −11.25 or 11.25°",
        "contrast factor 0.75 or 1.25",
        "rank-biserial correlation",
        "Wilcoxon signed-rank test",
        run.config["data"]["sha256"],
        str(run.environment["commit"]),
        "alpha 0.0 (default 0.1)",
        "batch_norm True (default False)",
        f"torch {run.environment['libraries']['torch']}",
        "dainv analyze base inv --transform half-extremes --repeats 2 --images 40 --seed 0",
    ):
        assert needed in text, needed


def test_no_path_of_the_machine(two, tmp_path):
    text, _ = page_of(two)
    assert str(tmp_path) not in text
    assert "data.npz" not in text


def test_a_model_that_is_a_path_is_named_by_its_last_part(two):
    two[0].runs[0].config["model"]["name"] = "/home/somebody/net"
    two[0].runs[0].config["settings"]["model"] = "/home/somebody/net"
    text, _ = page_of(two)
    assert "somebody" not in text
    assert "net (" in text


def test_names_are_shown_as_they_are(tmp_path):
    run = analyzed_run(tmp_path, "a<b>&c", label="a<b>&c")
    text, page = page_of(arms_of(run), warnings=["x < y & z"])
    assert "a<b>&c" in "".join(page.text)
    assert "x < y & z" in "".join(page.text)
    assert "<b>&c" not in text


def test_nothing_in_a_foreign_config_becomes_html(tmp_path):
    run = analyzed_run(tmp_path)
    tag = "<script>alert()</script>"
    run.config["settings"].update(augmentation=tag, backend=tag)
    run.config["data"].update(name=tag, sha256=tag, n_train=tag)
    run.config["model"].update(name=tag, width=tag)
    run.config.update(backend=tag, device=tag)
    run.environment.update(commit=tag, python=tag, cpu=tag, dainv=tag, libraries={tag: tag})
    text, _ = page_of(arms_of(run))
    assert text.count("<script") == 1
    assert text.count("&lt;script&gt;") >= 10


def test_warnings_come_before_the_findings(two):
    text, _ = page_of(two, warnings=["Something is doubtful."])
    assert text.index("Something is doubtful.") < text.index("One finding.")
    assert "Before reading on" not in page_of(two)[0]


def test_a_layer_without_a_score_is_called_so(tmp_path):
    rng = np.random.default_rng(0)
    sigma = {layer: rng.normal(size=(2, 40)) for layer in ("input", *LAYERS)}
    sigma["layer9"] = np.full((2, 40), np.nan)
    run = analyzed_run(tmp_path, sigma=sigma)
    _, page = page_of(arms_of(run))
    assert page.tables[1][-1][:3] == ["9", "123", "no score"]
    assert "nan" not in "".join(page.text)
