from __future__ import annotations

from typing import Any

import pytest

from dainv import UserError
from dainv_bench.captured.settings import CapturedSettings
from dainv_bench.kernels.settings import KernelSettings
from dainv_bench.overhead.settings import OverheadSettings
from dainv_bench.scaling.settings import ScalingSettings
from dainv_bench.scores.settings import ScoresSettings
from dainv_bench.settings import SuiteSettings
from dainv_bench.training.settings import TrainingSettings

SUITES = (OverheadSettings, KernelSettings, ScoresSettings, ScalingSettings, CapturedSettings, TrainingSettings)
# A batch and axes that scaling can vary.
SCALING = {"batch_size": 16, "views": 4, "values": {"B": (8, 16), "M": (2, 4), "ranks": (1, 2)}}


def refused(settings: type[SuiteSettings], reason: str, **given: Any) -> None:
    with pytest.raises(UserError) as error:
        settings(**given)
    assert str(error.value).startswith(reason)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", SUITES)
def test_what_no_suite_can_measure_is_refused(settings: type[SuiteSettings]) -> None:
    refused(settings, "--rounds: expected at least 3, got 2", rounds=2)
    for seed in (-1, 2**62):
        refused(settings, f"--seed: expected 0 to 2^62 - 1, got {seed}", seed=seed)
    for place in ("nowhere", "meta"):
        with pytest.raises(UserError, match=f"^--device {place}: "):
            settings(device=place).timed_device()
    assert settings(device="cpu").timed_device().type == "cpu"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"batch_size": 10}, "--batch-size 10 is not a multiple of --views 4"),
        ({"batch_size": 0}, "--batch-size 0 is not a multiple of --views 4"),
        ({"views": 1}, "--views: expected at least 2, got 1"),
        ({"warmup": 0}, "--warmup: expected at least 1, got 0"),
        ({"width": float("nan")}, "--width: expected a positive factor, got nan"),
        ({"limit": float("nan")}, "--limit: expected a percentage, got nan"),
        ({"arms": ("ours", "theirs")}, "--arms: there is no arm 'theirs'; there are baseline, control, published"),
    ],
    ids=str,
)
def test_overheads_that_cannot_be_measured(given: dict[str, Any], reason: str) -> None:
    refused(OverheadSettings, reason, **{"views": 4, **given})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"batch_size": 8}, "--batch-size 8: expected an even multiple of --views 8"),
        ({"batch_size": 24, "views": 16}, "--batch-size 24"),
        ({"seconds": 0}, "--seconds: expected a positive number, got 0"),
        ({"seconds": float("inf")}, "--seconds: expected a positive number, got inf"),
        ({"dtype": ("int8",)}, "--dtype: there is no dtype 'int8'; there are float32"),
        ({"workloads": ("layer10",)}, "--workloads: nothing is called 'layer10'; there are layer1-2"),
        ({"methods": ("theirs",)}, "--methods: nothing is called 'theirs'; there are reference"),
    ],
    ids=str,
)
def test_kernels_that_cannot_be_measured(given: dict[str, Any], reason: str) -> None:
    refused(KernelSettings, reason, **given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"sizes": (1,)}, "--sizes: expected numbers of at least 2 images"),
        ({"sizes": ()}, "--sizes: expected numbers"),
        ({"repeats": 0}, "--repeats: expected at least 1, got 0"),
        ({"batch_size": 0}, "--batch-size: expected at least 1, got 0"),
        ({"width": -1.0}, "--width: expected a positive factor"),
        ({"memory_limit": 0}, "--memory-limit: expected a positive number of GiB"),
        ({"limit": -1}, "--limit: expected a positive ratio"),
        ({"arms": ("forwards",)}, "--arms: there is no arm 'forwards'; there are forward, streaming"),
    ],
    ids=str,
)
def test_scores_that_cannot_be_measured(given: dict[str, Any], reason: str) -> None:
    refused(ScoresSettings, reason, **given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"axes": ("Z",)}, "--axes: there is no axis 'Z'; there are B, M, D, L, N, ranks"),
        ({"values": {"Z": (1,)}}, "--values: there is no axis 'Z'"),
        ({"values": {"B": (8, 10)}}, "--axes B: B = 10, M = 4"),
        ({"values": {"B": (16,), "M": (16,)}}, "--axes M: B = 16, M = 16"),
        ({"values": {"D": (0,)}}, "--values: expected D from 1"),
        ({"axes": ("N",), "values": {"N": (1,)}}, "--values: expected N of at least 2"),
        ({"features": 0}, "--axes B: B = 8, M = 4, D = 0"),
        ({"axes": ("ranks",), "values": {"ranks": (3,)}}, "ranks: 3 processes cannot share 16 samples equally"),
        ({"repeats": 0}, "--repeats: expected at least 1, got 0"),
        ({"score_batch_size": 0}, "--score-batch-size: expected at least 1, got 0"),
        ({"width": 0.0}, "--width: expected a positive factor"),
    ],
    ids=str,
)
def test_growth_that_cannot_be_measured(given: dict[str, Any], reason: str) -> None:
    refused(ScalingSettings, reason, **{**SCALING, **given})


@pytest.mark.parametrize(
    ("settings", "given", "reason"),
    [
        (CapturedSettings, {"arms": ("theirs",)}, "--arms: there is no arm 'theirs'"),
        (CapturedSettings, {"compiled": ("theirs",)}, "--compiled: there is no arm 'theirs'"),
        (
            TrainingSettings,
            {"precision": ("fp8",)},
            "--precision: there is no precision 'fp8'; there are fp32, tf32, bf16",
        ),
        (TrainingSettings, {"compared": 0}, "--compared: expected at least 1, got 0"),
    ],
    ids=str,
)
def test_steps_that_cannot_be_measured(settings: type[SuiteSettings], given: dict[str, Any], reason: str) -> None:
    refused(settings, reason, **given)
