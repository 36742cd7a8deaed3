"""Small results of every suite, as the suites write them, without measuring anything."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from dainv_bench.reading import FIELDS
from dainv_bench.scaling.fit import fit_growth
from dainv_bench.statistics import median_interval

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
BASELINE = [100.0, 101.0, 99.0, 100.5]
OURS = [105.0, 106.0, 104.0, 105.5]
PUBLISHED = [150.0, 155.0, 149.0, 151.0]


ENVIRONMENT = {
    "dainv": "0.1.0",
    "commit": "0123456789abcdef",
    "uncommitted_changes": False,
    "python": "3.11.7",
    "libraries": {"torch": "2.15.0", "triton": None, "numpy": "2.4.6"},
    "system": "Linux x86_64",
    "cpu": "AMD EPYC",
    "cpu_count": 2,
    "threads": 1,
    "cuda_devices": [],
    "cuda": "13.2",
    "backends": {"torch": "works"},
}


def _common(suite: str, device: str = "cpu", **settings: Any) -> dict[str, Any]:
    environment = copy.deepcopy(ENVIRONMENT)
    if device != "cpu":
        environment["cuda_devices"] = ["NVIDIA H200"]
    every = {
        "schema": 1,
        "suite": suite,
        "date": "2026-11-22T12:44:46+00:00",
        "interrupted": False,
        "environment": environment,
        "load_average": {"before": [0.25, 0.5, 0.5], "after": [0.75, 0.5, 0.5]},
        "settings": {"device": device, "batch_norm": False, "width": 1.0, "dtype": "float32", "rounds": 4, **settings},
    }
    return {name: value for name, value in every.items() if name in FIELDS[suite].__annotations__}


def _overheads(times: Sequence[float]) -> dict[str, float]:
    return dict(median_interval([100 * (one / base - 1) for one, base in zip(times, BASELINE, strict=True)]))


def overhead(**settings: Any) -> dict[str, Any]:
    def arm(times: list[float]) -> dict[str, Any]:
        return {
            "description": "",
            "not_run": None if times else "no GPU",
            "milliseconds": list(times),
            "median_milliseconds": median(times) if times else None,
            "overhead_percent": _overheads(times) if times and times is not BASELINE else None,
            "peak_memory_bytes": None,
            "agreement": None,
        }

    arms = {"baseline": BASELINE, "published": PUBLISHED, "closed-form": PUBLISHED, "ours": OURS, "ours-fused": []}
    ours = {"arm": "ours", "overhead_percent": _overheads(OURS), "limit_percent": 10.0, "verdict": "within"}
    return {
        **_common("overhead", batch_size=128, n_images=16, views=8, limit=10.0, data=None, **settings),
        "arms": {name: arm(times) for name, times in arms.items()},
        "orders": [["baseline"]] * 4,
        "verdict": ours,
    }


def _ratio(times: Sequence[float]) -> dict[str, float]:
    return dict(median_interval([one / base for one, base in zip(times, BASELINE, strict=True)]))


def scores() -> dict[str, Any]:
    def arm(times: list[float], not_run: str | None = None) -> dict[str, Any]:
        return {
            "description": "",
            "not_run": not_run,
            "milliseconds": times,
            "median_milliseconds": median(times) if times else None,
            "ratio_to_forward": _ratio(times) if times and times is not BASELINE else None,
            "peak_memory_bytes": None,
        }

    def size(published: dict[str, Any]) -> dict[str, Any]:
        return {
            "agreement": None,
            "arms": {"forward": arm(BASELINE), "streaming": arm(OURS), "published": published},
            "streaming_without_augmentation": _ratio(BASELINE),
            "orders": [["forward"]] * 4,
        }

    return {
        **_common("scores", repeats=5, batch_size=128, limit=1.01),
        "agreement": {},
        "sizes": {"64": size(arm(PUBLISHED)), "128": size(arm([], "the matrix | takes 9 GiB"))},
        "verdict": {"n_images": 128, "ratio_to_forward": _ratio(OURS), "limit": 1.01, "verdict": "above"},
    }


def scaling() -> dict[str, Any]:
    samples = [[value * time for time in OURS] for value in (1, 2)]
    method = {
        "description": "",
        "not_run": None,
        "milliseconds": samples,
        "median_milliseconds": [median(one) for one in samples],
        "peak_memory_bytes": [None, None],
        "growth": fit_growth([8, 16], samples),
    }
    empty = {name: [] for name in ("milliseconds", "median_milliseconds", "peak_memory_bytes")}
    axis = {
        "meaning": "samples in a batch",
        "work": "forward and backward",
        "fixed": {"M": 4},
        "values": [8, 16],
        "methods": {"torch": method, "triton": {"description": "", "not_run": "no GPU", "growth": None, **empty}},
        "orders": [["torch 8", "torch 16"]] * 4,
    }
    return {**_common("scaling", axes=["B"]), "axes": {"B": axis}}


def kernels(device: str = "cpu") -> dict[str, Any]:
    def one(milliseconds: list[float], share: list[float]) -> dict[str, Any]:
        return {
            "model_bytes": 10**6,
            "calls": 1,
            "how": "cpu",
            "milliseconds": milliseconds,
            "median_milliseconds": median(milliseconds),
            "gigabytes_per_second": 1.0 / median(milliseconds),
            "percent_of_copy": dict(median_interval(share)),
        }

    def method(scale: float, not_run: str | None = None, wrong: str | None = None) -> dict[str, Any]:
        times = [scale * time / 1e4 for time in BASELINE]
        timed = not_run is None and wrong is None
        directions = ("forward", "backward", "both") if timed else ()
        return {
            "description": "",
            "form": "loss",
            "ours": True,
            "not_run": not_run,
            "wrong": wrong,
            "errors": {"gradient": {"error": 1e-7}} if timed else None,
            "passes": {direction: one(times, [80.0 / scale, 81.0 / scale, 82.0 / scale]) for direction in directions},
        }

    def workload(dtype: str, beyond_cache: bool) -> dict[str, Any]:
        return {
            "dtype": dtype,
            "layers": [{"batch": 16, "views": 4, "shape": [3, 2, 2], "layout": "channels_last"}],
            "feature_bytes": 10**6,
            "input_sets": 2,
            "beyond_cache": beyond_cache,
            "copy_bytes": 10**7,
            "copy_milliseconds": [0.5, 0.5, 0.5],
            "copy_gigabytes_per_second": 20.0,
            "methods": {
                "torch": method(1),
                "relu+torch": method(2),
                "triton": method(1, not_run="no GPU"),
                "published": method(4) if dtype == "float32" else method(4, wrong="off by 7"),
            },
            "orders": [["torch forward"]] * 4,
        }

    found = {
        "layer1 float32": workload("float32", True),
        "layer9 float32": workload("float32", False),
        "layer1 bfloat16": workload("bfloat16", True),
    }
    return {**_common("kernels", device), "workloads": found, "left_out": ["gigabyte float32"]}


def captured() -> dict[str, Any]:
    def step(arm: str, form: str, times: list[float]) -> dict[str, Any]:
        return {
            "arm": arm,
            "form": form,
            "not_run": None if times else "no compiler",
            "update_error": None,
            "milliseconds": times,
            "median_milliseconds": median(times) if times else None,
            "overhead_percent": _overheads(times) if times and arm != "baseline" else None,
        }

    steps = [("baseline", "captured", BASELINE), ("ours-fused", "captured", OURS), ("compiled", "captured", [])]
    return {
        **_common("captured", "cuda:0", batch_size=128, views=8, n_images=16),
        "best_baseline": "baseline, captured",
        "steps": {f"{arm}, {form}": step(arm, form, times) for arm, form, times in steps},
        "orders": [["baseline, captured"]] * 4,
    }


def training() -> dict[str, Any]:
    forms = {
        "baseline": BASELINE,
        "objective": OURS,
        "objective, eager": PUBLISHED,
        "objective, no augmentation": BASELINE,
    }
    share = {"median": 1.2, "low": 1.0, "high": 1.4}
    one = {
        "recorded": True,
        "not_recorded": None,
        "loss_error": 1e-6,
        "update_error": 1e-5,
        "milliseconds": {form: list(times) for form, times in forms.items()},
        "median_milliseconds": {form: median(times) for form, times in forms.items()},
        "overhead_percent": _overheads(OURS),
        "augmentation_percent": share,
        "evaluation_milliseconds": 90.0,
        "seconds_of_350_epochs": 4000.0,
    }
    return {**_common("training", "cuda:0", batch_size=128, views=8, steps_a_turn=20), "precisions": {"tf32": one}}


def launches() -> dict[str, Any]:
    arm = {"not_run": None, "host_waits": None, "launches": 123, "beyond_baseline": 2, "more": {}, "fewer": {}}
    return {**_common("launches", "cuda:0", batch_size=128, views=8), "arms": {"ours-fused": arm}}


def gpu_check(device: str = "cuda:0") -> dict[str, Any]:
    def stage(result: dict[str, Any] | None) -> dict[str, Any]:
        return {"status": "passed", "reason": None, "seconds": 12.3, "exit_code": 0, "result": result}

    goal = {"goal": "forward, % of copy", "limit": 80, "at_most": False, "measured": 73.4, "low": 70.0, "high": 75.0}
    return {
        **_common("gpu-check", device),
        "stages": {
            "tests": stage({"passed": 3, "failed": 0}),
            "kernels": stage(kernels(device)),
            "training": stage(training()),
        },
        "goals": [{**goal, "verdict": "missed", "reason": None}],
    }


def resources() -> dict[str, Any]:
    """A committed one."""
    result: dict[str, Any] = json.loads(sorted(RESULTS.glob("kernel-resources--*.json"))[-1].read_text())
    return result


def epochs(**settings: Any) -> dict[str, Any]:
    result = overhead(epoch=True, updates=7, **settings)
    result["settings"]["data"] = "digits"
    return result


EVERY = {
    "overhead": overhead,
    "overhead-kept": lambda: overhead(allocator="kept"),
    "overhead-epoch": epochs,
    "overhead-epoch-kept": lambda: epochs(allocator="kept"),
    "scores": scores,
    "scaling": scaling,
    "kernels": kernels,
    "captured": captured,
    "training": training,
    "launches": launches,
    "gpu-check": gpu_check,
    "kernel-resources": resources,
}


def write(path: Path, result: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    return path
