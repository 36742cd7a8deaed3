from __future__ import annotations

import pytest
import torch
from bench_helpers import CPU, WRONG_GRADIENT, WRONG_LOSS, altered, eq3_by_pairs, problem

from dainv import UserError
from dainv_bench.overhead.arms import ARMS, BASELINE, CONTROL, Arm
from dainv_bench.overhead.equality import Agreement, check_agreement
from dainv_bench.overhead.training_step import TrainingStep
from dainv_bench.workload import make_batches, make_network

RUNNING = [arm for arm in ARMS.values() if arm.why_not(CPU) is None]
TAPPING = [arm for arm in RUNNING if arm.taps]


def check(arms: list[Arm], *, width: float = 0.1, batch_norm: bool = False, seed: int = 0) -> dict[str, Agreement]:
    network = make_network(width, batch_norm, seed, CPU)
    return check_agreement(arms, problem(), network, make_batches(1, 2, 4, seed, CPU)[0])


@pytest.mark.parametrize(
    "arm", [arm for arm in TAPPING if arm.name not in ("ours", "ours-relu")], ids=lambda arm: arm.name
)
def test_arm_is_eq4_over_explicit_pairs(arm: Arm) -> None:
    given = problem(n_images=3, views=5)
    generator = torch.Generator().manual_seed(0)
    activations = {f"layer{n}": torch.randn(15, n, 3, 3, generator=generator) + n for n in range(1, 10)}
    channels_last = {name: x.contiguous(memory_format=torch.channels_last) for name, x in activations.items()}
    task = torch.tensor(2.0)
    total, _, losses = arm.prepare(given)(task, channels_last)
    expected = {name: eq3_by_pairs(x, given.ids) for name, x in activations.items()}
    for name, loss in expected.items():
        assert losses[name].item() == pytest.approx(loss.item(), rel=1e-4)
    by_hand = 0.9 * task + sum(w * loss for w, loss in zip(given.weights, expected.values(), strict=True))
    assert total.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_baseline_is_the_task_alone() -> None:
    task = torch.tensor(2.0)
    assert ARMS[BASELINE].prepare(problem())(task, {"layer1": torch.randn(8, 3)}) == (task, task, {})


def test_one_arm_is_the_baseline_and_the_verdict_has_arms_of_ours() -> None:
    assert [arm.name for arm in ARMS.values() if not arm.taps] == [BASELINE, CONTROL]
    assert [arm.name for arm in ARMS.values() if arm.ours] == ["ours-after", "ours", "ours-relu", "ours-fused"]


def test_the_fused_arm_is_never_timed_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "interpreter" in str(ARMS["ours-fused"].why_not(CPU))
    monkeypatch.delenv("TRITON_INTERPRET")
    assert "CUDA device" in str(ARMS["ours-fused"].why_not(CPU))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("width", [0.1, 0.25])
def test_all_arms_agree(width: float, batch_norm: bool) -> None:
    agreements = check(TAPPING, width=width, batch_norm=batch_norm)
    assert list(agreements) == [arm.name for arm in TAPPING]
    for name, agreement in agreements.items():
        assert agreement["gradient_error"] <= agreement["gradient_bound"]
        assert list(agreement["loss_error"]) == list(agreement["loss_bound"]) == [f"layer{n}" for n in range(1, 10)]
        # no bound so wide that it lets an error of a percent pass
        assert max(*agreement["loss_bound"].values(), agreement["gradient_bound"]) < 1e-2, name


def test_only_arms_that_subtract_large_squares_are_given_more_room() -> None:
    bounds = {name: agreement["gradient_bound"] for name, agreement in check(TAPPING).items()}
    cancelling = {bounds.pop(arm.name) for arm in TAPPING if arm.cancels}
    assert len(cancelling) == len(set(bounds.values())) == 1
    assert cancelling.pop() > bounds.popitem()[1]


def test_a_missing_peer_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert "pip install" in str(ARMS["metric-learning"].why_not(CPU))
    assert "compiler" in str(ARMS["compiled"].why_not(CPU))


def test_a_wrong_loss_is_caught_at_its_layer() -> None:
    with pytest.raises(UserError, match=r"wrong-loss disagrees at layer3: the loss is off by 1\.0e-02"):
        check([*TAPPING, WRONG_LOSS])


def test_a_wrong_gradient_is_caught_where_the_loss_is_right() -> None:
    with pytest.raises(UserError, match=r"wrong-gradient disagrees at layer\d: the gradient is off"):
        check([*TAPPING, WRONG_GRADIENT])


def test_nan_is_a_disagreement() -> None:
    nan = altered(
        "nan", lambda right, task, x: right(task, {name: features * torch.nan for name, features in x.items()})
    )
    with pytest.raises(UserError, match="nan disagrees at layer1"):
        check([nan])


def test_a_dead_layer_is_reported_and_not_taken_for_a_disagreement() -> None:
    network = make_network(0.1, False, 0, CPU)
    with torch.no_grad():
        network.layer4.conv.bias.fill_(-1e6)
    with pytest.raises(UserError, match=r"layer4 is dead at this initialisation; try another --seed or --width"):
        check_agreement(TAPPING, problem(), network, make_batches(1, 2, 4, 0, CPU)[0])


def test_checking_leaves_the_parameters_alone() -> None:
    network = make_network(0.1, False, 0, CPU)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_agreement(TAPPING, problem(), network, make_batches(1, 2, 4, 0, CPU)[0])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_batches_look_like_images() -> None:
    batches = make_batches(2, n_images=3, views=4, seed=0, device=CPU)
    assert not torch.equal(batches[0].views, batches[1].views)
    for views, labels in batches:
        assert views.shape == (12, 3, 32, 32)
        assert views.is_contiguous(memory_format=torch.channels_last)
        assert 0 <= views.min() < 0.2 < 0.8 < views.max() <= 1
        assert torch.equal(labels, labels[::4].repeat_interleave(4))
        images = torch.arange(3).repeat_interleave(4)
        assert 0.1 < eq3_by_pairs(views, images) < 0.9  # views of an image are more alike than images, but not equal


def test_batches_and_parameters_follow_the_seed() -> None:
    first, again, other = (make_batches(1, 2, 4, seed, CPU)[0].views for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    one, same, another = (make_network(0.1, False, seed, CPU).layer1.conv.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, another)


def test_making_a_network_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    make_network(0.1, False, 0, CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("arm", RUNNING, ids=lambda arm: arm.name)
def test_a_step_trains_a_copy(arm: Arm) -> None:
    network = make_network(0.1, False, 0, CPU)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    step = TrainingStep(network, arm.prepare(problem()), make_batches(2, 2, 4, 0, CPU))
    for number in range(3):
        step(number)
    assert all(torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))
    trained = list(step.network.parameters())
    assert any(not torch.equal(now, then) for now, then in zip(trained, before, strict=True))
    assert all(parameter.isfinite().all() for parameter in trained)
