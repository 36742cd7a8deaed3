"""Every Triton kernel compiled for GPUs that are not here: NVIDIA Ampere and Hopper, AMD CDNA 3."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

# In a process of its own: this one has its kernels in Triton's interpreter, which has nothing to compile.
COMPILE = """
import json, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dainv_kernels import triton_closed_form as kernels

POINTERS = {"order_ptr": "*i64", "bounds_ptr": "*i64", "n_groups_ptr": "*i64", "weights_ptr": "*fp64",
            "partial_ptr": "*fp64", "sums_ptr": "*fp64", "mean_offset_ptr": "*fp32", "grad_loss_ptr": "*fp32",
            "loss_ptr": "*fp32"}

def compiled(kernel, features, target, **constants):
    warps = constants.pop("num_warps", 4)
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_ptr"):
            signature[name] = POINTERS.get(name, features)
        else:
            signature[name] = "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=target, options={"num_warps": warps})

results = []
for gpu, target in TARGETS.items():
    target = GPUTarget(*target)
    for dtype, features in ((torch.float32, "*fp32"), (torch.bfloat16, "*bf16")):
        launch = kernels._launch(torch.empty(2, 97, dtype=dtype))
        for kernel in (kernels.group_sums_kernel, kernels.gradient_kernel):
            for views, relu in ((8, False), (0, False), (8, True)):
                name = f"{kernel.__name__} of {features}, VIEWS={views}, RELU={relu}"
                results.append((gpu, name, compiled(kernel, features, target, VIEWS=views, RELU=relu, **launch)))
    results.append((gpu, "finish_kernel", compiled(kernels.finish_kernel, None, target, BLOCK=256)))

print(json.dumps([{
    "gpu": gpu, "kernel": name, "shared": result.metadata.shared,
    "binary": "cubin" in result.asm or "hsaco" in result.asm,
    "assembly": result.asm["ptx" if "ptx" in result.asm else "amdgcn"],
} for gpu, name, result in results]))
"""

TARGETS = {"Ampere": ("cuda", 80, 32), "Hopper": ("cuda", 90, 32), "CDNA 3": ("hip", "gfx942", 64)}
ATOMIC = re.compile(r"(?<![\w.])(atom|red)\.|_atomic_")  # of PTX, and of AMD's instruction set


@pytest.fixture(scope="module")
def compiled(fresh_python: Callable[..., str]) -> list[dict[str, Any]]:
    return json.loads(fresh_python(f"TARGETS = {TARGETS!r}\n{COMPILE}"))


@pytest.mark.parametrize("gpu", TARGETS)
def test_kernels_compile(compiled: list[dict[str, Any]], gpu: str) -> None:
    kernels = [result for result in compiled if result["gpu"] == gpu]
    assert len(kernels) == 13  # two kernels of two dtypes in three variants, and the one that finishes
    for kernel in kernels:
        assert kernel["binary"], kernel["kernel"]
        assert kernel["shared"] <= 48 * 1024, kernel["kernel"]  # what all of these give a block without being asked


@pytest.mark.parametrize("gpu", TARGETS)
def test_kernels_have_no_atomics(compiled: list[dict[str, Any]], gpu: str) -> None:
    # Sums in the order in which blocks happen to finish would not give the same bits twice.
    found = {result["kernel"]: ATOMIC.search(result["assembly"]) for result in compiled if result["gpu"] == gpu}
    assert found
    assert not any(found.values()), found


def test_atomics_would_be_recognised() -> None:
    assert ATOMIC.search("\t@%p1 atom.global.gpu.acq_rel.add.f32 %f2, [ %rd1 ], %f1;")
    assert ATOMIC.search("\tred.global.add.f32 [%rd1], %f1;")
    assert ATOMIC.search("\tglobal_atomic_add_f32 v0, v1, s[0:1]")
    assert not ATOMIC.search("\t.reg .pred %p<3>;\n\tst.shared.b32 [%r1], %r2;")
