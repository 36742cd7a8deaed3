"""What a step launches on a GPU."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from dainv import UserError
from dainv_bench.gpu.launches import _against, launched
from dainv_bench.gpu.launches import measure as measure_launches
from dainv_bench.overhead.arms import BASELINE

TRACE = {
    "traceEvents": [
        {"cat": "kernel", "name": "conv"},
        {"cat": "kernel", "name": "conv"},
        {"cat": "gpu_memset", "name": "Memset"},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel"},
        {"cat": "gpu_user_annotation", "name": "Optimizer.step"},
        {"ph": "M", "name": "process_name"},
    ]
}


def test_what_ran_on_the_device_is_counted() -> None:
    assert launched(TRACE) == Counter({"conv": 2, "Memset": 1})


def test_launches_are_compared_with_the_baseline() -> None:
    counts = {BASELINE: Counter(conv=9, relu=9), "ours-fused": Counter(conv=9, sums=9, finish=2)}
    arm = _against(counts, {"ours-fused": None}, "ours-fused", None)
    assert (arm["launches"], arm["beyond_baseline"]) == (20, 2)
    assert (arm["more"], arm["fewer"]) == ({"sums": 9, "finish": 2}, {"relu": 9})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_launches_are_not_counted_on_a_cpu() -> None:
    with pytest.raises(UserError, match="launches are counted on a CUDA device"):
        measure_launches("cpu")
    with pytest.raises(UserError, match="--batch-size 128 is not a multiple of --views 7"):
        measure_launches("cpu", views=7)


@pytest.mark.gpu
def test_launches_of_a_step() -> None:
    arms = measure_launches("cuda")["arms"]
    assert arms[BASELINE]["launches"] is not None
    assert arms[BASELINE]["launches"] >= 27  # nine convolutions, forward and backward by data and weights
    assert arms[BASELINE]["beyond_baseline"] == 0
    assert arms["published"]["beyond_baseline"] > 9
