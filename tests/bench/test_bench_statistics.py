from __future__ import annotations

import numpy as np
import pytest

from dainv_bench.statistics import Interval, judge, median_interval, paired_overhead


def test_a_drift_that_both_share_does_not_matter() -> None:
    baseline = np.array([100.0, 150.0, 90.0, 400.0])
    assert paired_overhead(1.1 * baseline, baseline) == pytest.approx([10.0] * 4)


def test_an_arm_faster_than_the_baseline_has_a_negative_overhead() -> None:
    assert paired_overhead([50.0], [100.0]) == pytest.approx([-50.0])


def test_interval_of_equal_rounds_is_a_point() -> None:
    assert median_interval([7.0] * 5) == Interval(median=7.0, low=7.0, high=7.0)


def test_median_ignores_one_outlier() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 1000.0])["median"] == 3.0


def test_interval_of_three_rounds_is_their_range() -> None:
    # all three draws are the smallest with probability 1/27, two or more with 7/27: far above 2.5 %
    assert median_interval([3.0, 1.0, 2.0]) == Interval(median=2.0, low=1.0, high=3.0)


def test_width_is_that_of_the_median_of_normal_samples() -> None:
    n, sd = 400, 2.0
    interval = median_interval(np.random.default_rng(0).normal(5.0, sd, size=n))
    expected = 2 * 1.96 * np.sqrt(np.pi / 2) * sd / np.sqrt(n)
    assert interval["high"] - interval["low"] == pytest.approx(expected, rel=0.25)


def test_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [median_interval(rng.exponential(size=30)) for _ in range(60)]
    covered = np.mean([interval["low"] <= np.log(2) <= interval["high"] for interval in intervals])
    assert covered >= 0.85


def test_the_same_rounds_give_the_same_interval() -> None:
    samples = np.random.default_rng(2).normal(size=20)
    assert median_interval(samples) == median_interval(samples)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(2, 4, "within"), (8, 10, "within"), (8, 12, "undecided"), (10, 12, "undecided"), (11, 12, "above")],
)
def test_verdict_is_by_the_whole_interval(low: float, high: float, verdict: str) -> None:
    assert judge(Interval(median=(low + high) / 2, low=low, high=high), limit=10) == verdict
