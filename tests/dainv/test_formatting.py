import pytest

from dainv.analysis.seeds import seed_mean
from dainv.formatting import interval, layer_list, listed, most_of, number, p_value, percent, short_layer, signed
from dainv.summaries import Estimate

LAYERS = [f"layer{place}" for place in range(1, 10)]


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
    assert [number(nothing) for nothing in (None, float("nan"), float("inf"))] == ["–"] * 3
    assert signed(0.051) == "+0.05"
    assert signed(-0.051) == "−0.05"
    assert signed(0.001) == "0.00"
    assert interval(Estimate(0, -0.1, 0.2)) == "−0.10 to 0.20"
    assert interval(seed_mean([0.4])) == "–"
    assert percent(Estimate(0.915, 0.909, 0.92)) == "91.5 % (90.9 to 92.0 %)"
    assert [p_value(p) for p in (0.0, 0.00099, 0.0123, 1.0)] == ["p < 0.001", "p < 0.001", "p = 0.012", "p = 1.000"]
    assert [most_of(share) for share in (1, 0.9996, 0.994, 0.0004, 0)] == [
        "100 %",
        "over 99 %",
        "99 %",
        "under 1 %",
        "0 %",
    ]
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_names_of_layers_on_an_axis():
    assert [short_layer(name) for name in ("input", "layer12", "features.3")] == ["input", "12", "features.3"]
