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

from dainv.analysis import dynamics_figure as dynamics_module
from dainv.analysis import scores_figure as scores_module
from dainv.analysis.dynamics import Dynamics, band
from dainv.analysis.dynamics_figure import dynamics_figure, epoch_ticks
from dainv.analysis.scores_figure import arm_colours, scores_figure
from dainv.drawing import DARK, LIGHT
from dainv.summaries import box


def fake_arm(label="baseline", epochs=3, baseline=True, level=0.3, dead=(), n=1):
    """What the figures look at, in an arm with made-up scores and losses."""
    rng = np.random.default_rng(0)
    layers = ["input", *LAYERS]
    sigma = {layer: level + 0.2 * rng.normal(size=(n, 2, 40)) for layer in layers if layer not in dead}
    start, end = rng.uniform(0.2, 0.9, (2, 1, 9))
    share = np.linspace(0, 1, epochs + 1)[:, None] ** 0.5
    losses = [start + (end - start) * share + 0.01 * rng.normal(size=(epochs + 1, 9)) for _ in range(n)]
    accuracy = np.linspace(0.1, 0.9, epochs + 1)
    runs = [Dynamics(tuple(LAYERS), np.arange(epochs + 1), a, a * 1.05, accuracy, accuracy) for a in losses]
    return SimpleNamespace(
        label=label,
        title=label,
        n=n,
        layers=layers,
        is_baseline=baseline,
        boxes={layer: box(scores) for layer, scores in sigma.items()},
        medians_of_runs=lambda layer: [float(np.median(scores)) for scores in sigma[layer]],
        dynamics=band(runs),
    )


@pytest.fixture(scope="module")
def two():
    return [fake_arm(), fake_arm("data augmentation invariance", baseline=False, level=0.7, n=3)]


@pytest.mark.parametrize(("draw", "form"), [(scores_figure, "svg"), (scores_figure, "png"), (dynamics_figure, "svg")])
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
    # names of formats and pictures within: nothing that a browser would fetch
    links = re.findall(r'(?:href|src)="(?!#)([^"]*)"', drawing)
    assert all(link.startswith("data:image/png;base64,") for link in links)


@pytest.mark.parametrize("draw", [scores_figure, dynamics_figure])
def test_png_is_large_enough_to_print(two, draw, tmp_path):
    (tmp_path / "figure.png").write_bytes(draw(two, "png"))
    width, height = Image.open(tmp_path / "figure.png").size
    assert width >= 1400
    assert height >= 600


@pytest.mark.parametrize("epochs", [0, 350])
def test_dynamics_of_any_length(epochs):
    ElementTree.fromstring(dynamics_figure([fake_arm(epochs=epochs), fake_arm("other", epochs=1)], "svg"))


@pytest.mark.parametrize("n", [1, 4])
def test_any_number_of_arms(n):
    arms = [fake_arm(f"arm {number}", baseline=number % 2 == 0) for number in range(n)]
    for draw in (scores_figure, dynamics_figure):
        ElementTree.fromstring(draw(arms, "svg"))
    assert len(set(arm_colours(arms))) == n


def test_a_constant_layer_is_left_out_and_named():
    alive, dead = fake_arm(), fake_arm(dead=("layer9",))
    assert scores_figure([dead], "svg") != scores_figure([alive], "svg")
    everything = fake_arm(dead=("input", *LAYERS))
    ElementTree.fromstring(scores_figure([everything], "svg"))


def test_the_paper_s_colours():
    pair = [fake_arm("b", baseline=False), fake_arm("a", baseline=True)]
    assert arm_colours(pair) == [LIGHT.invariance, LIGHT.baseline]


def lines_of_figure_1(arms, monkeypatch):
    monkeypatch.setattr(scores_module, "render", lambda figure, form: figure)
    return scores_figure(arms, "svg").axes[0].lines


def test_boxes_are_where_the_numbers_are(two, monkeypatch):
    lines = lines_of_figure_1(two, monkeypatch)
    medians = [line for line in lines if line.get_color() == LIGHT.paper][:10]
    assert [line.get_ydata()[0] for line in medians] == [b.median for b in two[0].boxes.values()]
    assert [float(np.mean(line.get_xdata())) for line in medians] == pytest.approx([n - 0.19 for n in range(10)])
    ends = {float(value) for line in lines for value in np.ravel(line.get_ydata())}
    assert {b.whisker_low for b in two[0].boxes.values()} <= ends
    assert {b.whisker_high for b in two[0].boxes.values()} <= ends


def test_points_are_the_medians_of_the_runs(two, monkeypatch):
    points = [line for line in lines_of_figure_1(two, monkeypatch) if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in points] == [two[1].medians_of_runs(layer) for layer in two[1].layers]


def test_curves_are_means_with_the_range_of_the_runs_and_epochs_stand_at_their_square_roots():
    axes = Figure().add_subplot()
    arm = fake_arm(epochs=100, n=3)
    dynamics_module._layer(axes, arm, "layer2", "red", LIGHT)
    control, train, _turns = axes.lines
    np.testing.assert_allclose(train.get_xdata(), np.sqrt(np.arange(101)))
    np.testing.assert_array_equal(train.get_ydata(), arm.dynamics.mean.train[:, 1])
    np.testing.assert_array_equal(control.get_ydata(), arm.dynamics.mean.control[:, 1])
    (filled,) = axes.collections
    corners = filled.get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(arm.dynamics.low.train[:, 1].min())
    assert corners.max() == pytest.approx(arm.dynamics.high.train[:, 1].max())


def test_turning_points_are_marked_on_the_curve():
    epochs = np.arange(31)
    curve = np.interp(epochs, [0, 1, 10, 30], [1.0, 1.0, 0.2, 1.5])[:, None]
    arm = SimpleNamespace(n=1, dynamics=band([Dynamics(("x",), epochs, curve, curve, curve[:, 0], curve[:, 0])]))
    axes = Figure().add_subplot()
    dynamics_module._layer(axes, arm, "x", "red", LIGHT)
    turns = axes.lines[-1]
    np.testing.assert_allclose(turns.get_xydata(), [[np.sqrt(10), 0.2]])


def test_maps_have_layers_down_and_epochs_across(monkeypatch):
    monkeypatch.setattr(dynamics_module, "render", lambda figure, form: figure)
    arm = fake_arm(epochs=20)
    figure = dynamics_figure([arm], "svg")
    above = figure.subfigs[0]
    (mesh,) = above.axes[0].collections
    np.testing.assert_allclose(mesh.get_array(), arm.dynamics.mean.train.T)
    assert mesh.get_clim() == (0.0, 1.0)  # as published
    assert [label.get_text() for label in above.axes[0].get_yticklabels()] == [str(n) for n in range(1, 10)]
    assert above.axes[0].yaxis.get_inverted()
    panels = [axes for axes in figure.subfigs[1].axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [*(f"Layer {n}" for n in range(1, 10)), "Accuracy"]


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
