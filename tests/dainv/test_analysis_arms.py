import copy

import numpy as np
import pytest
from analysis_runs import analyzed_run, levels

from dainv.analysis.arms import arm_labels, experiment, group, kind, numbered, run_labels, shown
from dainv.analysis.comparison import compare
from dainv.analysis.results import Arm

BASE = {
    "settings": {"alpha": 0.0, "seed": 0, "data": "here", "data_root": "data", "spread": 10.0},
    "model": {"name": "allcnn"},
    "data": {"sha256": "0", "name": "digits"},
    "layers": ["a", "b"],
}


def config(part="settings", **changes):
    made = copy.deepcopy(BASE)
    made[part].update(changes)
    return made


def test_seeds_and_paths_do_not_make_another_experiment():
    same = [config(), config(seed=1), config(data="there", data_root="x"), config(device="cuda", tensorboard=True)]
    assert group(same) == [[0, 1, 2, 3]]
    other = [config(), config(alpha=0.1), config(epochs=3), config("data", sha256="1"), config("model", name="resnet")]
    assert group(other) == [[0], [1], [2], [3], [4]]
    assert group([config(seed=1), config(alpha=0.1), config(seed=2)]) == [[0, 2], [1]]


def test_a_setting_younger_than_the_run_had_its_default():
    assert experiment(config()) == experiment(config(clip_gradients=None, views=8))
    assert experiment(config()) != experiment(config(clip_gradients=1.0))
    assert experiment(config()) == experiment(config(milestones=[200, 250, 300]))
    assert "seed" not in experiment(config())


def test_a_path_is_named_by_its_last_part():
    assert [shown("model", value) for value in ("resnet18", "/home/me/net.pt", "runs/a/", "C:\\x\\y", None, 0.1)] == [
        *("resnet18", "net.pt", "a", "y", "None", "0.1")
    ]
    assert shown("alpha_schedule", "a/b") == "a/b"
    arms, _ = labels_of(
        [config(weights="/me/a.pt"), config(weights="/me/b.pt"), config(weights="/me/b.pt", seed=1)], "xyz"
    )
    assert arms == ["x", "weights b.pt"]


def labels_of(configs, names):
    groups = group(configs)
    arms = arm_labels(groups, names, configs)
    return arms, run_labels(groups, arms, names, configs)


def test_arms_are_called_as_in_the_paper_where_that_tells_them_apart():
    assert [kind(config(alpha=alpha)) for alpha in (0.0, 0.1)] == ["baseline", "data augmentation invariance"]
    one, two = config(), config(alpha=0.1)
    both = ["baseline", "data augmentation invariance"]
    assert labels_of([one], ["a"]) == (["baseline"], ["baseline"])
    assert labels_of([one, two], ["a", "b"]) == (both, both)
    arms, runs = labels_of([one, two, config(seed=1)], ["a", "b", "c"])
    assert arms == both
    assert runs == ["baseline, seed 0", "data augmentation invariance", "baseline, seed 1"]


def test_arms_of_one_kind_are_called_by_directory_or_by_what_differs():
    configs = [config(alpha=0.1), config(alpha=0.2), config(alpha=0.2, seed=1), config(alpha=0.0)]
    arms, runs = labels_of(configs, ["a", "b", "c", "d"])
    assert arms == ["a", "alpha 0.2", "d"]
    assert runs == ["a", "alpha 0.2, seed 0", "alpha 0.2, seed 1", "d"]


def test_no_two_labels_are_alike():
    arms, runs = labels_of([config(), config(), config(epochs=2)], ["x", "y", "x"])
    assert arms == ["epochs 350", "x"]
    assert runs == ["epochs 350, x", "epochs 350, y", "x"]
    assert numbered(["a", "a", "b"]) == ["a (1)", "a (2)", "b"]


def run(folder, name, seed, alpha, shift):
    return analyzed_run(folder, name, seed=seed, alpha=alpha, label=name, sigma=levels(*[0.5] * 10, shift=shift))


def test_runs_of_the_same_seed_are_compared_with_each_other(tmp_path):
    base = Arm("baseline", tuple(run(tmp_path, f"b{seed}", seed, 0.0, 0.01 * seed) for seed in (0, 1)))
    other = Arm("inv", tuple(run(tmp_path, f"i{seed}", seed, 0.1, 0.2 + 0.01 * seed) for seed in (1, 0)))
    (found,) = compare([other, base])
    assert [(pair.reference.name, pair.other.name) for pair in found.pairs] == [("b1", "i1"), ("b0", "i0")]
    assert found.seeds["layer3"].paired
    assert found.seeds["layer3"].value == pytest.approx(0.2)
    assert "input" not in found.pairs[0].tests


def test_without_common_seeds_arms_are_compared_unpaired(tmp_path):
    base = Arm("baseline", tuple(run(tmp_path, f"b{seed}", seed, 0.0, 0.0) for seed in (0, 1)))
    other = Arm("inv", tuple(run(tmp_path, f"i{seed}", seed, 0.1, 0.01 * seed) for seed in (2, 3, 4)))
    (found,) = compare([base, other])
    assert [(pair.reference.name, pair.other.name) for pair in found.pairs] == [
        ("b0", "i2"),
        ("b0", "i3"),
        ("b0", "i4"),
    ]
    assert not found.seeds["layer3"].paired
    assert found.seeds["layer3"].n == (2, 3)


def test_the_run_is_the_unit_of_an_arm(tmp_path):
    arm = Arm("inv", tuple(run(tmp_path, f"i{seed}", seed, 0.1, 0.1 * seed) for seed in (0, 1)))
    assert arm.medians["layer1"].value == pytest.approx(0.55)
    assert arm.medians["layer1"].low == pytest.approx(0.55 - 12.7062 * 0.05, abs=1e-5)
    assert arm.medians["layer1"].high == 1  # no score is higher
    assert arm.medians_of_runs("layer1") == pytest.approx([0.5, 0.6])
    boxes = [run.summaries["layer1"].box for run in arm.runs]
    assert arm.boxes["layer1"] == pytest.approx(np.mean(boxes, axis=0))
    assert arm.boxes["layer1"].median == pytest.approx(arm.medians["layer1"].value)
    assert arm.boxes["layer1"].q3 - arm.boxes["layer1"].q1 == pytest.approx(0.05)  # pooled it would be .1
