"""The figures of the reproduction."""

import re

import numpy as np
import pytest
from reproduction_evidence import both, published

from dainv.reproduction.figures import dynamics_figure, scores_figure
from dainv.reproduction.published import ARMS, DYNAMICS, LAYERS


def two_seeds():
    return {arm: [published(arm, seed, curves=DYNAMICS[arm].T + 0.02 * seed) for seed in (0, 1)] for arm in ARMS}


@pytest.mark.parametrize("draw", [scores_figure, dynamics_figure])
def test_figures_are_drawn_for_one_seed_and_for_several(draw):
    one, several = draw(both(), "svg"), draw(two_seeds(), "svg")
    assert one.startswith(b"<?xml")
    assert one != several
    assert not re.search(rb"nan|inf[^o]", re.sub(rb"<defs>.*?</defs>", b"", one, flags=re.DOTALL))


def test_a_constant_layer_has_no_box():
    arms = both()
    boxes = {layer: box for layer, box in arms["baseline"][0].boxes.items() if layer != LAYERS[3]}
    arms["baseline"] = [published("baseline", boxes=boxes)]
    assert len(scores_figure(arms, "svg")) < len(scores_figure(both(), "svg"))


def test_runs_shorter_than_the_published_one_have_their_own_axis():
    short = {arm: [published(arm, curves=np.full((3, 9), 0.5))] for arm in ARMS}
    assert dynamics_figure(short, "svg")
