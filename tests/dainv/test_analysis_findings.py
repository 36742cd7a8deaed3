import numpy as np
import pytest
from analysis_runs import LAYERS, analyzed_run

from dainv.analysis.findings import findings, interval, layer_list, number, percent, signed
from dainv.analysis.results import compare, kind, labels, short_layer
from dainv.analysis.statistics import Estimate


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ([], "no layer"),
        ([3], "layer 3"),
        ([1, 2], "layers 1 and 2"),
        ([2, 3, 4], "layers 2–4"),
        ([1, 3, 4, 5, 8, 9], "layers 1, 3–5, 8 and 9"),
        (list(range(1, 10)), "all 9 layers"),
    ],
)
def test_layers_in_words(chosen, said):
    assert layer_list([f"layer{place}" for place in chosen], LAYERS) == said


def test_numbers():
    assert number(-0.123) == "−0.12"
    assert number(-0.0001) == "0.00"
    assert signed(0.051) == "+0.05"
    assert signed(-0.051) == "−0.05"
    assert signed(0.001) == "0.00"
    assert interval(Estimate(0, -0.1, 0.2)) == "−0.10 to 0.20"
    assert percent(Estimate(0.915, 0.909, 0.92)) == "91.5 % (90.9 to 92.0 %)"


def test_names_of_layers_on_an_axis():
    assert [short_layer(name) for name in ("input", "layer12", "features.3")] == ["input", "12", "features.3"]


def test_runs_are_called_as_in_the_paper_where_that_tells_them_apart():
    base, other = ({"settings": {"alpha": alpha}} for alpha in (0.0, 0.1))
    assert [kind(base), kind(other)] == ["baseline", "data augmentation invariance"]
    assert labels(["a"], ["baseline"]) == ["baseline"]
    assert labels(["a", "b"], ["baseline", "data augmentation invariance"]) == [
        "baseline",
        "data augmentation invariance",
    ]
    assert labels(["a", "b"], ["baseline", "baseline"]) == ["a", "b"]
    assert labels(["a", "a", "b"], ["baseline"] * 3) == ["a (1)", "a (2)", "b"]


def sentence(found, start):
    (one,) = [text for text in found if text.startswith(start)]
    return one


def test_what_is_said_of_runs_whose_scores_are_known(tmp_path):
    spread = np.linspace(-0.05, 0.05, 40)

    def at(levels):
        return {layer: np.stack([level + spread] * 2) for layer, level in zip(["input", *LAYERS], levels, strict=True)}

    base = analyzed_run(
        tmp_path, "base", alpha=0.0, sigma=at([0.5, 0.3, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.7]), accuracy=0.5
    )
    other = analyzed_run(tmp_path, "other", alpha=0.1, sigma=at([0.5, 0.3, 0.3, 0.6, 0.6, 0.6, 0.6, 0.95, 0.9, 0.6]))
    found = findings([base, other], compare([base, other]))
    assert "50.0 % (33.2 to 66.8 %) for the baseline after epoch 3 (n = 30 images)" in sentence(found, "Test accuracy")
    assert "the median invariance score σ is 0.50" in sentence(found, "In the pixels of data")
    assert (
        "Baseline: the median σ is above the pixels' at layer 9, below the pixels' at layers 1 and 2, "
        "not clearly different from the pixels' at layers 3–8. It is highest at layer 9, 0.70." in found
    )
    assert "highest at layer 7, 0.95, and 0.60 at layer 9" in sentence(
        found, "Data augmentation invariance: the median"
    )
    compared = sentence(found, "Compared with the baseline")
    assert "higher at layers 3–8 (most at layer 7: +0.45, 0.45 to 0.45)" in compared
    assert "lower at layer 9 (most at layer 9: −0.10, −0.10 to −0.10)" in compared
    assert "not clearly different at layers 1 and 2" in compared
    assert "rose at layers 1–3 and fell at layers 4–9" in sentence(found, "Baseline: from the first training batch")


def test_nothing_is_said_of_layers_without_a_score(tmp_path):
    nothing = analyzed_run(
        tmp_path, "dead", alpha=0.0, sigma={layer: np.full((2, 40), np.nan) for layer in ("input", *LAYERS)}
    )
    found = findings([nothing], [])
    assert "Baseline: no layer has a score to compare with the pixels'." in found


def test_a_run_that_has_only_begun(tmp_path):
    begun = analyzed_run(tmp_path, "begun", alpha=0.0, epochs=0)
    assert sentence(findings([begun], []), "Baseline: no epoch is complete yet")
