from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dainv.analysis.loss_phases import LEAST_RECORDS, least_move, phases


def kinds(curve):
    return [phase.kind for phase in phases(np.asarray(curve, dtype=float))]


# Published Figure 2, read off the image at these epochs: baseline layers 1 and 9, the other arm's layers 4, 8 and 9.
EPOCHS = [0, 1, 3, 5, 10, 25, 50, 100, 200, 349]
PUBLISHED = {
    "baseline 1": ([0.51, 0.45, 0.34, 0.41, 0.43, 0.50, 0.53, 0.53, 0.56, 0.55], ["fall", "rise"], [3]),
    "baseline 9": ([0.36, 0.30, 0.14, 0.28, 0.34, 0.46, 0.52, 0.57, 0.61, 0.61], ["fall", "rise"], [3]),
    "invariance 4": ([0.22, 0.18, 0.18, 0.22, 0.47, 0.64, 0.54, 0.33, 0.23, 0.23], ["rise", "fall"], [25]),
    "invariance 8": ([0.14, 0.11, 0.10, 0.10, 0.26, 0.26, 0.11, 0.08, 0.06, 0.06], ["fall", "rise", "fall"], [4, 17]),
    "invariance 9": ([0.14, 0.12, 0.11, 0.10, 0.23, 0.34, 0.45, 0.49, 0.54, 0.55], ["rise"], []),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_phases_of_the_published_curves(name):
    values, expected, turns = PUBLISHED[name]
    curve = np.interp(np.sqrt(np.arange(350)), np.sqrt(EPOCHS), values)
    curve += 0.002 * np.random.default_rng(0).normal(size=350)
    found = phases(curve)
    assert [phase.kind for phase in found] == expected
    for phase, turn in zip(found[1:], turns, strict=True):
        assert abs(np.sqrt(phase.start) - np.sqrt(turn)) < 0.8


def test_turning_points_are_the_extremes():
    down_up_down = np.concatenate([np.linspace(1, 0, 10), np.linspace(0, 2, 15)[1:], np.linspace(2, 1, 10)[1:]])
    found = phases(down_up_down)
    assert [(phase.kind, phase.start, phase.end) for phase in found] == [
        ("fall", 0, 9),
        ("rise", 9, 23),
        ("fall", 23, 32),
    ]


def test_no_phase_where_nothing_happens():
    assert kinds(np.full(50, 0.7)) == []
    assert kinds(np.zeros(50)) == []
    assert kinds(0.7 + 0.01 * np.sin(np.arange(50))) == []


@pytest.mark.parametrize("n", [30, 100, 350])
def test_noise_alone_has_no_phase(n):
    rng = np.random.default_rng(0)
    claimed = [bool(kinds(1 + 0.3 * rng.normal(size=n))) for _ in range(200)]
    assert np.mean(claimed) <= 0.03


def test_a_spike_of_one_epoch_is_no_turning_point():
    curve = np.linspace(1, 0.2, 40)
    curve[20] = 1.5
    assert kinds(curve) == ["fall"]


@pytest.mark.parametrize("n", range(LEAST_RECORDS))
def test_too_few_epochs_have_no_phase(n):
    assert kinds(np.linspace(1, 0, n)) == []


@given(st.lists(st.floats(0, 1), min_size=LEAST_RECORDS, max_size=40))
def test_phases_alternate_reach_far_enough_and_do_not_depend_on_the_scale(values):
    curve = np.asarray(values)
    found = phases(curve)
    for phase in found:
        move = curve[phase.end] - curve[phase.start]
        assert abs(move) >= (1 - 1e-9) * least_move(curve)
        assert (move > 0) == (phase.kind == "rise")
    for one, other in pairwise(found):
        assert one.end == other.start
        assert one.kind != other.kind
    assert [phase[0] for phase in phases(4.0 * curve)] == [phase[0] for phase in found]
