import re
from html.parser import HTMLParser

import numpy as np
import pytest
from analysis_runs import LAYERS, analyzed_run

from dainv.analysis.findings import number
from dainv.analysis.report import report_html
from dainv.analysis.results import compare
from dainv.analysis.stylesheet import STYLESHEET

VOID = {"meta", "img", "source", "br"}
DRAWINGS = (b"<svg>light</svg>", b"<svg>dark</svg>")


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
        if self.open and self.open[-1] != "style":
            self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def page_of(runs, warnings=()):
    text = report_html(
        runs, compare(runs), ["One finding."], warnings, {"dainv": "0", "commit": "abc"}, DRAWINGS, DRAWINGS
    )
    return text, Page(text)


@pytest.fixture
def two(tmp_path):
    return [analyzed_run(tmp_path, "base", alpha=0.0), analyzed_run(tmp_path, "inv", alpha=0.1)]


def test_page_is_sound_and_asks_nothing_of_the_network(two):
    text, page = page_of(two)
    assert text.startswith("<!DOCTYPE html>")
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:image/svg+xml;base64,") or name not in attributes
    assert "url(" not in STYLESHEET
    assert "@import" not in STYLESHEET
    assert not re.search(r"https?://", text)


def test_figures_have_words_for_those_who_do_not_see_them(two):
    images = [attributes for tag, attributes in page_of(two)[1].tags if tag == "img"]
    assert len(images) == 2
    assert all(len(attributes["alt"]) > 100 for attributes in images)
    assert number(two[1].summaries["layer4"].median.value) in images[0]["alt"]


def test_light_and_dark(two):
    text, page = page_of(two)
    assert "prefers-color-scheme: dark" in text
    sources = [attributes for tag, attributes in page.tags if tag == "source"]
    assert all("screen" in attributes["media"] for attributes in sources)  # paper is light
    assert len({attributes["srcset"] for attributes in sources}) == 1


def test_every_row_of_every_table_is_complete(two):
    for table in page_of(two)[1].tables:
        assert len(table) >= 2
        assert len({len(row) for row in table}) == 1


def test_tables_say_what_the_summaries_say(two):
    runs, base, inv, differences, losses, _ = page_of(two)[1].tables
    assert [row[0] for row in runs[1:]] == ["baseline", "data augmentation invariance"]
    for run, table in ((two[0], base), (two[1], inv)):
        assert [row[0] for row in table[1:]] == ["input", *map(str, range(1, 10))]
        for row, summary in zip(table[1:], run.summaries.values(), strict=True):
            assert row[2].startswith(number(summary.median.value, 3))
            assert row[4] == f"{number(summary.q1, 3)}, {number(summary.q3, 3)}"
            assert row[6] == number(summary.mean, 3)
    (comparison,) = compare(two)
    assert number(abs(comparison.differences["layer5"].value), 3) in differences[6][3]
    assert losses[3][2] == number(two[0].dynamics.train[0, 2], 3)


def test_definitions_and_provenance_are_there(two):
    text = " ".join("".join(page_of(two)[1].text).split())
    for needed in (
        "(Eq. 2)",
        "40 images × 2 transformations = 80 scores",
        "rotation −11.25 or 11.25°",
        "contrast factor 0.75 or 1.25",
        two[0].config["data"]["sha256"],
        str(two[0].environment["commit"]),
        "alpha 0.0 (default 0.1)",
        "batch_norm True (default False)",
        f"torch {two[0].environment['libraries']['torch']}",
        "dainv analyze base inv --transform half-extremes --repeats 2 --images 40 --seed 0",
    ):
        assert needed in text, needed


def test_no_path_of_the_machine(two, tmp_path):
    text, _ = page_of(two)
    assert str(tmp_path) not in text
    assert "data.npz" not in text


def test_names_are_shown_as_they_are(tmp_path):
    run = analyzed_run(tmp_path, "a<b>&c", label="a<b>&c")
    text, page = page_of([run], warnings=["x < y & z"])
    assert "a<b>&c" in "".join(page.text)
    assert "x < y & z" in "".join(page.text)
    assert "<b>&c" not in text


def test_nothing_in_a_foreign_config_becomes_html(tmp_path):
    run = analyzed_run(tmp_path)
    tag = "<script>alert()</script>"
    run.config["settings"].update(augmentation=tag, seed=tag, backend=tag)
    run.config["data"].update(name=tag, sha256=tag, n_train=tag)
    run.config.update(backend=tag, device=tag)
    run.environment.update(commit=tag, python=tag, cpu=tag, dainv=tag, libraries={tag: tag})
    text, _ = page_of([run])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 10


def test_warnings_come_before_the_findings(two):
    text, _ = page_of(two, warnings=["Something is doubtful."])
    assert text.index("Something is doubtful.") < text.index("One finding.")
    assert "Before reading on" not in page_of(two)[0]


def test_a_constant_layer_is_called_so(tmp_path):
    rng = np.random.default_rng(0)
    sigma = {layer: rng.normal(size=(2, 40)) for layer in ("input", *LAYERS)}
    sigma["layer9"] = np.full((2, 40), np.nan)
    run = analyzed_run(tmp_path, sigma=sigma)
    _, page = page_of([run])
    assert page.tables[1][-1][:3] == ["9", "123", "constant"]
    assert "nan" not in "".join(page.text)
