"""The Triton kernels compiled for GPUs that need not be there, and what the binaries take of them.

The public operators are called on tensors that nobody fills, and where a kernel would be launched, Triton compiles it
for the target instead. So arguments, tile sizes and specialisations are those that really run. This needs a process
without ``TRITON_INTERPRET``; ``python -m dainv_bench.resources.compilation TARGET`` is one, and prints a JSON object a
launch. Names of variants may follow the target: only these are compiled then.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

from torch import Tensor

from dainv_bench.resources.llvm_code import LlvmCode
from dainv_bench.resources.machine_code import Amd, Nvidia, Usage
from dainv_bench.resources.variants import TARGETS, VARIANTS, Variant


class Compiled(Usage):
    """What a kernel takes on one target."""

    shared_bytes: int  # of a block
    atomics: list[str]  # instructions
    loads: dict[str, int]  # of global memory: bytes an instruction -> instructions, counted in machine code
    stores: dict[str, int]
    argument_loads: dict[str, list[int]]  # kernel argument -> bytes an instruction, from LLVM's code
    argument_stores: dict[str, list[int]]


class _Elsewhere:
    """As much of a driver as Triton needs to compile for a GPU that is not there."""

    def __init__(self, target: Any) -> None:
        self.get_current_target = lambda: target
        self.get_current_device = lambda: target.arch
        self.get_current_stream = lambda _device: 0


def compile_variants(target: str, variants: Iterable[Variant] = VARIANTS) -> Iterator[dict[str, Any]]:
    """Compile variants for a target.

    Args:
        target: a key of TARGETS.
        variants: what to compile.

    Yields:
        One record a launch: variant, kernel, and what is known of it; kernels that are the same have the same hash.
    """
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    launches: list[tuple[Any, dict[str, Any], Any]] = []
    run = JITFunction.run

    def compile_only(kernel: Any, *values: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        compiled = run(kernel, *values, grid=grid, warmup=True, **named)
        launches.append((kernel, dict(zip(kernel.arg_names, values, strict=False)) | named, compiled))
        return compiled

    driver.set_active(_Elsewhere(GPUTarget(*TARGETS[target])))
    described: dict[str, dict[str, Any]] = {}
    with (
        mock.patch.object(JITFunction, "run", compile_only),
        mock.patch("dainv_kernels.operator.choose_backend", lambda name, _features: name),
    ):
        for variant in variants:
            launches.clear()
            variant.run()
            for kernel, arguments, compiled in launches:
                if compiled.hash not in described:
                    described[compiled.hash] = _describe(kernel, arguments, compiled, variant)
                yield {"variant": variant.name, "hash": compiled.hash, **described[compiled.hash]}


def _describe(kernel: Any, arguments: dict[str, Any], compiled: Any, variant: Variant) -> dict[str, Any]:
    constants = {param.name: arguments[param.name] for param in kernel.params if param.is_constexpr}
    size = variant.batch * math.prod(variant.features)
    given = [name for name, kind in compiled.src.signature.items() if kind != "constexpr"]
    return {
        "kernel": kernel.__name__,
        "constants": {name: value if isinstance(value, int) else str(value) for name, value in constants.items()},
        "warps": compiled.metadata.num_warps,
        "features": [name for name, value in arguments.items() if isinstance(value, Tensor) and value.numel() == size],
        "compiled": _read(compiled.asm, compiled.metadata.shared, given),
    }


def _read(asm: dict[str, Any], shared: int, arguments: list[str]) -> Compiled:
    llvm = LlvmCode(asm["llir"], arguments)
    code = Nvidia.disassembled(asm["cubin"]) if "cubin" in asm else Amd(asm["amdgcn"])
    return Compiled(
        **code.usage(),
        shared_bytes=shared,
        atomics=code.atomics(),
        loads=code.moves("load"),
        stores=code.moves("store"),
        argument_loads=llvm.argument_moves("load"),
        argument_stores=llvm.argument_moves("store"),
    )


if __name__ == "__main__":
    only = sys.argv[2:] or [variant.name for variant in VARIANTS]
    for launch in compile_variants(sys.argv[1], [variant for variant in VARIANTS if variant.name in only]):
        print(json.dumps(launch), flush=True)
