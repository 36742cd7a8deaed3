"""Every Triton kernel compiled for GPUs that are not here: NVIDIA Ampere and Hopper, AMD CDNA 3.

Every variant is compiled for every target, which also shows whether the committed result is of these kernels.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dainv_bench.resources.compilation import Compiled
from dainv_bench.resources.results import KernelResources, committed_results, load_bytes
from dainv_bench.resources.suite import measure_resources
from dainv_bench.resources.variants import OPERATIONS, TARGETS, VARIANTS, Variant

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.timeout(900),  # minutes of work, all of it before the first test; more where cores are shared
]

OF_FLOATS = re.compile(r"[fF](?:16|32|64)")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.fixture(scope="module")
def kernels() -> list[KernelResources]:
    """Compiled by other processes: this one has its kernels in Triton's interpreter, which has nothing to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_DEFAULT_FP_FUSION", "0")  # as in later versions: launches ask for what they want
        return measure_resources()["kernels"]


@pytest.fixture(scope="module")
def committed() -> list[KernelResources] | None:
    version = importlib.metadata.version("triton")
    results = [one for one in committed_results(RESULTS) if one["environment"]["libraries"]["triton"] == version]
    return results[0]["kernels"] if results else None


def on(target: str, kernels: list[KernelResources]) -> Iterator[tuple[str, Compiled]]:
    for kernel in kernels:
        if target in kernel["compiled"]:
            yield f"{kernel['kernel']}: {kernel['variants']}", kernel["compiled"][target]


def test_every_operation_has_a_variant() -> None:
    assert {variant.operation for variant in VARIANTS} == OPERATIONS.keys()


def test_every_kernel_is_compiled_for_every_target(kernels: list[KernelResources]) -> None:
    names = [{one["kernel"] for one in kernels if target in one["compiled"]} for target in TARGETS]
    assert all(some == names[0] for some in names)


@pytest.mark.parametrize("target", TARGETS)
def test_every_variant_compiles(kernels: list[KernelResources], target: str) -> None:
    here = [kernel for kernel in kernels if target in kernel["compiled"]]
    for variant in VARIANTS:
        names = {kernel["kernel"] for kernel in here if variant.name in kernel["variants"]}
        backward = {name for name in names if "gradient" in name}
        assert backward, variant.name
        assert names > backward, variant.name


@pytest.mark.parametrize("target", TARGETS)
def test_shared_memory_is_what_a_block_gets_without_asking(kernels: list[KernelResources], target: str) -> None:
    assert {name: one["shared_bytes"] for name, one in on(target, kernels) if one["shared_bytes"] > 48 * 1024} == {}


@pytest.mark.parametrize("target", TARGETS)
def test_atomics_only_count(kernels: list[KernelResources], target: str) -> None:
    # Sums in the order in which programs happen to finish would not give the same bits twice.
    for name, compiled in on(target, kernels):
        assert len(compiled["atomics"]) <= 1, name
        assert not any(OF_FLOATS.search(atomic) for atomic in compiled["atomics"]), name


def test_atomics_of_floats_would_be_recognised() -> None:
    for atomic in ("ATOMG.E.ADD.F32.FTZ.RN", "RED.E.ADD.F64.RN", "global_atomic_pk_add_bf16", "global_atomic_add_f32"):
        assert OF_FLOATS.search(atomic)
    for atomic in ("ATOMG.E.ADD.STRONG.GPU", "global_atomic_add", "global_atomic_add_u32"):
        assert not OF_FLOATS.search(atomic)


def test_no_register_is_spilled_on_hopper(kernels: list[KernelResources]) -> None:
    assert {name: one["spills"] for name, one in on("sm_90", kernels) if one["spills"] or one["stack_bytes"]} == {}


READ_NO_FEATURES = ("pair_sums_kernel", "matrix_kernel")


def expected_load(kernel: str, variant: Variant) -> int:
    """Bytes that a load of features must have on an NVIDIA GPU: 16, the most there is, with two exceptions."""
    if math.prod(variant.features) % 16:
        return 4  # rows start anywhere
    if kernel == "pair_tiles_kernel" and variant.element_size == 2:
        return 8  # eight warps share a line of the cache of each of 16 rows
    return 16


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_features_are_loaded_as_wide_as_can_be(kernels: list[KernelResources], target: str) -> None:
    variants = {variant.name: variant for variant in VARIANTS}
    for kernel in kernels:
        if target in kernel["compiled"] and kernel["kernel"] not in READ_NO_FEATURES:
            size = load_bytes(kernel, target)
            assert size is not None, kernel["kernel"]
            for name in kernel["variants"]:
                assert size >= expected_load(kernel["kernel"], variants[name]), f"{kernel['kernel']}: {name}"


@pytest.mark.parametrize("target", TARGETS)
def test_the_widths_are_those_of_the_machine_code(kernels: list[KernelResources], target: str) -> None:
    for kernel in kernels:
        if (compiled := kernel["compiled"].get(target)) is not None:
            for name in kernel["features"]:
                assert {str(size) for size in compiled["argument_loads"].get(name, ())} <= compiled["loads"].keys()
                assert {str(size) for size in compiled["argument_stores"].get(name, ())} <= compiled["stores"].keys()


def test_the_committed_result_is_of_these_kernels(
    kernels: list[KernelResources], committed: list[KernelResources] | None
) -> None:
    if committed is None:
        pytest.skip(f"there is no result of Triton {importlib.metadata.version('triton')}")
    recorded, again = by_launch(committed), by_launch(kernels)
    changed = [launch for launch in sorted({*recorded, *again}) if recorded.get(launch) != again.get(launch)]
    assert changed == [], "run `dainv-bench resources` with every Triton that has a result"


def by_launch(kernels: list[KernelResources]) -> dict[tuple[str, ...], Compiled]:
    """What came out for each target, variant and kernel, with what it was made of."""
    return {
        (target, name, kernel["kernel"], json.dumps(kernel["constants"]), str(kernel["warps"])): compiled
        for kernel in kernels
        for name in kernel["variants"]
        for target, compiled in kernel["compiled"].items()
    }
