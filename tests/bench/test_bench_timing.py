from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from dainv_bench import timing
from dainv_bench.timing import Rounds, Sample, interleave, measure_each, meter_for

NAMES = ["a", "b", "c"]


def without_a_clock(work: Callable[[], None]) -> Sample:
    work()
    return Sample(1.0, None)


def run(works: dict[str, Callable[[int], None]], rounds: int = 20, warmup: int = 2, seed: int = 0) -> Rounds:
    return interleave(works, rounds=rounds, warmup=warmup, measure=without_a_clock, seed=seed)


def recorders(calls: list[tuple[str, int]]) -> dict[str, Callable[[int], None]]:
    def recorder(name: str) -> Callable[[int], None]:
        return lambda step: calls.append((name, step))

    return {name: recorder(name) for name in NAMES}


def test_every_arm_does_every_step_once_and_the_arms_take_turns() -> None:
    calls: list[tuple[str, int]] = []
    result = run(recorders(calls), rounds=20, warmup=2)
    assert Counter(calls) == Counter({(name, step): 1 for name in NAMES for step in range(22)})
    assert [step for _, step in calls] == [step for step in range(22) for _ in NAMES]
    assert [sorted(one) for one in result.finished] == [NAMES] * 20
    assert not result.interrupted


def test_recorded_orders_are_the_orders_of_execution() -> None:
    calls: list[tuple[str, int]] = []
    result = run(recorders(calls), warmup=0)
    assert [name for one in result.finished for name in one] == [name for name, _ in calls]


def test_every_arm_is_first_middle_and_last_in_some_round() -> None:
    orders = [list(one) for one in run(recorders([])).finished]
    for place in range(len(NAMES)):
        assert {order[place] for order in orders} == set(NAMES)


def test_orders_follow_the_seed() -> None:
    first, again, other = (run(recorders([]), seed=seed).finished for seed in (0, 0, 1))
    orders = [[list(one) for one in rounds] for rounds in (first, again, other)]
    assert orders[0] == orders[1] != orders[2]


def test_warm_up_is_not_measured() -> None:
    measured = 0

    def count(work: Callable[[], None]) -> Sample:
        nonlocal measured
        measured += 1
        return without_a_clock(work)

    interleave(recorders([]), rounds=4, warmup=5, measure=count, seed=0)
    assert measured == 4 * len(NAMES)


def test_progress_is_told_after_every_step() -> None:
    told: list[str] = []
    interleave(recorders([]), rounds=3, warmup=1, measure=without_a_clock, seed=0, on_step=told.append)
    assert Counter(told) == {"warming up": 3, "round 1 of 3": 3, "round 2 of 3": 3, "round 3 of 3": 3}


def interrupting(at_step: int) -> dict[str, Callable[[int], None]]:
    def press(step: int) -> None:
        if step == at_step:
            raise KeyboardInterrupt

    return {**recorders([]), "pressed": press}


def test_ctrl_c_keeps_the_rounds_before_it_whole() -> None:
    result = run(interrupting(at_step=2 + 5), warmup=2)
    assert result.interrupted
    assert [sorted(one) for one in result.finished] == [[*NAMES, "pressed"]] * 5


@pytest.mark.parametrize("at_step", [1, 2 + 2], ids=["while warming up", "after two rounds"])
def test_ctrl_c_before_there_is_enough_is_passed_on(at_step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(interrupting(at_step), warmup=2)


@pytest.mark.parametrize(("seconds", "rounds"), [(-5.0, 3), (0.0, 3), (4.5, 5), (100.0, 20)])
def test_rounds_end_with_their_time_but_there_are_three(
    seconds: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def tick(_step: int) -> None:
        nonlocal now
        now += 1

    monkeypatch.setattr(timing.time, "monotonic", lambda: now)
    found = interleave({"a": tick}, rounds=20, warmup=0, measure=without_a_clock, seed=0, seconds=seconds)
    assert len(found.finished) == rounds
    assert not found.interrupted


def test_samples_of_an_arm() -> None:
    rounds = Rounds(
        [{"a": Sample(1.0, 5), "b": Sample(2.0, None)}, {"b": Sample(4.0, None), "a": Sample(3.0, 7)}], False
    )
    assert rounds.milliseconds("a") == [1.0, 3.0]
    assert (rounds.peak_bytes("a"), rounds.peak_bytes("b")) == (7, None)
    assert rounds.orders == [["a", "b"], ["b", "a"]]


def cases(**outcomes: tuple[str, bool] | None) -> list[tuple[dict[str, str], bool]]:
    """What measure_each tells; None stands for Ctrl-C before there was a result."""

    def measure(case: str) -> tuple[str, bool]:
        if (outcome := outcomes[case]) is None:
            raise KeyboardInterrupt
        return outcome

    return list(measure_each(outcomes, measure))


def test_cases_are_measured_until_ctrl_c() -> None:
    first, both = {"a": "A"}, {"a": "A", "b": "B"}
    assert cases(a=("A", False), b=("B", False)) == [(first, False), (both, False)]
    assert cases(a=("A", False), b=("B", True), c=("C", False)) == [(first, False), (both, True)]
    assert cases(a=("A", False), b=None, c=("C", False)) == [(first, False), (first, True)]
    with pytest.raises(KeyboardInterrupt):
        cases(a=None, b=("B", False))


@pytest.mark.parametrize("at_step", [0, 5, None])
def test_the_garbage_collector_is_off_meanwhile_and_on_again_after(at_step: int | None) -> None:
    seen: list[bool] = []
    works = {**interrupting(-1 if at_step is None else at_step), "look": lambda _: seen.append(gc.isenabled())}
    try:
        run(works, warmup=1)
    except KeyboardInterrupt:
        assert at_step == 0
    assert not any(seen)
    assert gc.isenabled()


def test_a_cpu_step_has_a_time_and_no_memory() -> None:
    done: list[bool] = []
    sample = meter_for(torch.device("cpu"))(lambda: done.append(True))
    assert done == [True]
    assert sample.milliseconds >= 0
    assert sample.peak_bytes is None


@pytest.mark.gpu
def test_a_gpu_step_is_waited_for_and_its_memory_is_its_own() -> None:
    held = torch.empty(1 << 22, device="cuda")
    sample = meter_for(torch.device("cuda"))(lambda: torch.empty(1 << 20, dtype=torch.uint8, device="cuda").zero_())
    assert sample.milliseconds > 0
    assert sample.peak_bytes is not None
    assert 1 << 20 <= sample.peak_bytes < held.nbytes
