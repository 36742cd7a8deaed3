import io
import json

import pytest
import torch
from rich.console import Console
from training_runs import SMALL, Recorder

from dainv import UserError, layer_weights
from dainv.plan import make_plan, show
from dainv.settings import TrainSettings
from dainv.training import Trainer
from dainv.training.profile import profile, table


def plan_of(tiny, **changes):
    return make_plan(TrainSettings(**{**SMALL, **changes}), tiny, Recorder())


def screen(plan):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(show(plan))
    return console.export_text()


def test_a_plan_says_what_the_run_will_be(tiny):
    plan = plan_of(tiny, epochs=35, alpha_schedule="100:0.5")
    assert (plan.config["steps_per_epoch"], plan.config["total_steps"], plan.n_epochs) == (4, 140, 35)
    assert plan.schedule == (
        (0, 0.01, 0.1),
        (10, 0.01, 0.05),
        (20, pytest.approx(1e-3), 0.05),
        (25, pytest.approx(1e-4), 0.05),
        (30, pytest.approx(1e-5), 0.05),
    )
    assert list(plan.weights.values()) == pytest.approx(layer_weights(9))
    assert plan.dimensions["layer1"] == 5 * 16 * 16
    assert plan.dimensions["layer9"] == 10 * 4 * 4


def test_the_schedule_of_a_run_of_any_length_is_found_at_once(tiny):
    plan = plan_of(tiny, steps=10**9)
    assert plan.n_epochs == 250_000_000
    assert [epoch for epoch, _, _ in plan.schedule] == [0, 142857143, 178571429, 214285715]


@pytest.mark.parametrize("schedule", ["", "0:10,10:0.1,87:0.1,175:0.1,262:0"])
@pytest.mark.parametrize("n_epochs", [1, 2, 7, 35, 351])
def test_between_its_changes_a_schedule_stands_still(schedule, n_epochs):
    settings = TrainSettings(alpha_schedule=schedule)
    now = None
    for epoch in range(n_epochs):
        before, now = now, (settings.learning_rate_at(epoch, n_epochs), settings.alpha_at(epoch, n_epochs))
        assert now == before or epoch in settings.changes(n_epochs)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_memory_is_counted_by_shape(tiny, batch_norm):
    """Of what autograd keeps for the backward pass, every byte but the parameters', which it keeps too, and indices."""
    plan = plan_of(tiny, batch_norm=batch_norm)
    trainer = Trainer(TrainSettings(**SMALL, batch_norm=batch_norm), tiny, Recorder())
    parameters = {parameter.data_ptr() for parameter in trainer.model.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.is_floating_point() and tensor.ndim == 4 and tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor  # held, so that no other tensor comes to lie at its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        trainer.update()
    assert plan.memory["activations"] == sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    assert plan.memory["gradients"] == 4 * plan.n_parameters
    assert plan.memory["optimizer"] == 4 * plan.n_parameters
    assert plan.memory["parameters"] >= 4 * plan.n_parameters
    assert plan.held is None


def test_the_time_is_that_of_updates_and_evaluations(tiny):
    plan = plan_of(tiny, epochs=3)
    assert plan.timed_updates >= 2
    assert plan.update_seconds > 0
    assert plan.seconds == pytest.approx(12 * plan.update_seconds + 4 * plan.evaluation_seconds)


@pytest.mark.parametrize("changes", [{}, {"alpha_schedule": "0:10,10:0.1,87:0.1,175:0.1,262:0"}, {"alpha": 0.0}])
def test_a_plan_fits_one_screen(tiny, changes):
    lines = screen(plan_of(tiny, epochs=350, **changes)).splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80


def test_the_screen_names_what_was_measured_and_how(tiny):
    text = " ".join(screen(plan_of(tiny, epochs=350, backend="torch")).split())  # as if it were one line
    for words in ("16 samples (B) = 4 images (K) × 4 views (M)", "4 an epoch, 1,400 in all (350 epochs)", "torch"):
        assert words in text
    assert "0.01; after epoch 200: 0.001, 250: 0.0001, 300: 1e-05" in text
    assert "after a warm-up" in text
    assert "0.027038" in text  # alpha^(9)
    assert "nothing was written" in text


def test_a_profile_sorts_all_that_an_update_does(tiny):
    found = profile(Trainer(TrainSettings(**SMALL, fused=True, backend="torch"), tiny, Recorder()))
    spent = found["milliseconds"]
    groups = {"convolution", "objective and its ReLU", "images and augmentation", "optimizer", "everything else"}
    assert set(spent) == {*groups, "between operations"}
    assert all(milliseconds > 0 for group, milliseconds in spent.items() if group in groups)
    assert sum(spent.values()) == pytest.approx(found["profiled_milliseconds"], rel=0.2)
    json.dumps(found, allow_nan=False)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(found))
    assert "convolution" in console.export_text()


def test_a_plan_of_what_cannot_run_is_refused(tiny):
    with pytest.raises(UserError, match="drawn from 64 training images"):
        plan_of(tiny, batch_size=512, views=4)
