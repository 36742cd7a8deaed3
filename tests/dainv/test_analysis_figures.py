import re
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from analysis_runs import LAYERS
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from dainv.analysis import figures
from dainv.analysis.dynamics import Dynamics
from dainv.analysis.figures import DARK, LIGHT, dynamics_figure, epoch_ticks, run_colours, scores_figure
from dainv.analysis.statistics import resampled_medians, summarize


def fake_run(label="baseline", epochs=3, baseline=True, level=0.3, dead=()):
    """What the figures look at, in a run with made-up scores and losses."""
    rng = np.random.default_rng(0)
    layers = ["input", *LAYERS]
    sigma = {layer: level + 0.2 * rng.normal(size=(2, 40)) for layer in layers if layer not in dead}
    resampled = resampled_medians(sigma, 0, resamples=20)
    start, end = rng.uniform(0.2, 0.9, (2, 1, 9))
    share = np.linspace(0, 1, epochs + 1)[:, None] ** 0.5
    train = start + (end - start) * share + 0.01 * rng.normal(size=(epochs + 1, 9))
    return SimpleNamespace(
        label=label,
        layers=layers,
        is_baseline=baseline,
        summaries={layer: summarize(scores, resampled[layer]) for layer, scores in sigma.items()},
        dynamics=Dynamics(tuple(LAYERS), np.arange(epochs + 1), train, train * 1.05),
    )


@pytest.fixture(scope="module")
def two():
    return [fake_run(), fake_run("data augmentation invariance", baseline=False, level=0.7)]


@pytest.mark.parametrize("draw", [scores_figure, dynamics_figure])
@pytest.mark.parametrize("form", ["svg", "png"])
def test_same_bytes_every_time(two, draw, form):
    before = dict(matplotlib.rcParams)
    first = draw(two, form)
    np.random.default_rng().normal()
    assert draw(two, form) == first
    assert draw(two, form, DARK) != first
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("draw", [scores_figure, dynamics_figure])
def test_svg_is_sound_and_tells_no_date_or_address(two, draw):
    drawing = draw(two, "svg").decode()
    ElementTree.fromstring(drawing)
    assert "<dc:date>" not in drawing
    # names of formats only: nothing that a browser would fetch
    assert set(re.findall(r'(?:href|src)="(?!#)([^"]*)"', drawing)) == set()


@pytest.mark.parametrize("draw", [scores_figure, dynamics_figure])
def test_png_is_large_enough_to_print(two, draw, tmp_path):
    (tmp_path / "figure.png").write_bytes(draw(two, "png"))
    width, height = Image.open(tmp_path / "figure.png").size
    assert width >= 1400
    assert height >= 600


@pytest.mark.parametrize("epochs", [0, 1, 2, 350])
def test_dynamics_of_any_length(epochs):
    ElementTree.fromstring(dynamics_figure([fake_run(epochs=epochs), fake_run("other", epochs=1)], "svg"))


@pytest.mark.parametrize("n", [1, 3, 7])
def test_any_number_of_runs(n):
    runs = [fake_run(f"run {number}", baseline=number % 2 == 0) for number in range(n)]
    for draw in (scores_figure, dynamics_figure):
        ElementTree.fromstring(draw(runs, "svg"))
    assert len(set(run_colours(runs))) == n


def test_a_constant_layer_is_left_out_and_named():
    alive, dead = fake_run(), fake_run(dead=("layer9",))
    assert scores_figure([dead], "svg") != scores_figure([alive], "svg")
    everything = fake_run(dead=("input", *LAYERS))
    ElementTree.fromstring(scores_figure([everything], "svg"))


def test_the_paper_s_colours():
    pair = [fake_run("b", baseline=False), fake_run("a", baseline=True)]
    assert run_colours(pair) == [LIGHT.invariance, LIGHT.baseline]


def test_boxes_are_where_the_numbers_are(two):
    axes = Figure().add_subplot()
    figures._boxes(axes, two[0], two[0].layers, shift=0.2, width=0.3, colour="red", theme=LIGHT)
    medians = [line for line in axes.lines if line.get_color() == LIGHT.paper]
    assert [line.get_ydata()[0] for line in medians] == [s.median.value for s in two[0].summaries.values()]
    assert [float(np.mean(line.get_xdata())) for line in medians] == pytest.approx([n + 0.2 for n in range(10)])
    ends = {float(value) for line in axes.lines for value in np.ravel(line.get_ydata())}
    assert {s.whisker_low for s in two[0].summaries.values()} <= ends
    assert {s.whisker_high for s in two[0].summaries.values()} <= ends


def test_epochs_stand_at_their_square_roots():
    axes = Figure().add_subplot()
    run = fake_run(epochs=100)
    figures._curves(axes, run, LAYERS, [(0.0, 0.0, 0.0, 1.0)] * 9)
    assert len(axes.lines) == 18
    for line in axes.lines:
        np.testing.assert_allclose(line.get_xdata(), np.sqrt(np.arange(101)))
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), run.dynamics.train[:, 0])
    labels = [int(label.get_text()) for label in axes.get_xticklabels()]
    np.testing.assert_allclose(axes.get_xticks(), np.sqrt(labels))


def test_ticks_at_round_epochs():
    assert epoch_ticks(0) == [0]
    assert epoch_ticks(1) == [0, 1]
    assert epoch_ticks(6) == [0, 1, 2, 5, 6]
    assert epoch_ticks(350) == [0, 1, 5, 20, 50, 100, 200, 350]


@given(st.integers(1, 100_000))
def test_ticks_never_touch(last):
    ticks = epoch_ticks(last)
    assert ticks[0] == 0
    assert ticks[-1] == last
    assert len(ticks) <= 12
    assert min(np.diff(np.sqrt(ticks))) >= 0.05 * np.sqrt(last)
