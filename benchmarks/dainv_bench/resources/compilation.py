"""The Triton kernels compiled for GPUs that need not be there, and what the binaries take of them.

The public operators are called on tensors that nobody fills, and where a kernel would be launched, Triton compiles it
for the target instead. So arguments, tile sizes and specialisations are those that really run. This needs a process
without ``TRITON_INTERPRET``; ``python -m dainv_bench.resources.compilation TARGET`` is one, and prints a JSON object a
launch. Names of variants may follow the target: only these are compiled then.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypedDict
from unittest import mock

import torch
from torch import Tensor

from dainv_kernels import Groups, invariance_loss, pairwise_mse, relu_invariance

TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}


def _loss(x: Tensor, groups: Groups, backend: str = "triton") -> None:
    loss = invariance_loss(x, groups, backend=backend)
    torch.autograd.grad(loss, x)


def _loss_beside_another_use(x: Tensor, groups: Groups) -> None:
    """The gradient is added to what the next layer has left, where torch says what that is."""
    activation = x.clone()
    loss = invariance_loss(activation, groups, backend="triton")
    used = 2 * activation
    torch.autograd.grad((loss, used), x, (torch.ones_like(loss), torch.empty_like(used)))


def _relu_and_loss(x: Tensor, groups: Groups, backend: str = "triton") -> None:
    y, loss = relu_invariance(x, groups, backend=backend)
    torch.autograd.grad((y, loss), x, (torch.empty_like(y), torch.ones_like(loss)))


def _bias_relu_and_loss(x: Tensor, groups: Groups) -> None:
    bias = torch.empty(x.shape[1], dtype=x.dtype, requires_grad=True)
    y, loss = relu_invariance(x, groups, bias=bias, backend="triton")
    torch.autograd.grad((y, loss), (x, bias), (torch.empty_like(y), torch.ones_like(loss)))


def _distances(x: Tensor, _groups: Groups) -> None:
    distances = pairwise_mse(x, backend="triton-pairwise")
    torch.autograd.grad(distances, x, torch.empty_like(distances))


# Forward and backward. A new operation goes here, and VARIANTS says what it is compiled for.
OPERATIONS: dict[str, Callable[[Tensor, Groups], None]] = {
    "loss": _loss,
    "loss (added)": _loss_beside_another_use,
    "ReLU + loss": _relu_and_loss,
    "bias + ReLU + loss": _bias_relu_and_loss,
    "loss by pairs": partial(_loss, backend="triton-pairwise"),
    "ReLU + loss by pairs": partial(_relu_and_loss, backend="triton-pairwise"),
    "distances": _distances,
}


@dataclass(frozen=True)
class Variant:
    """A use of the kernels: an operation on one kind of features.

    Attributes:
        operation: a key of OPERATIONS.
        dtype: of the features.
        views: M of consecutive groups; 0: groups of any size in any order, or an operation without groups.
        batch: B. By default that of the paper, as the features are those of All-CNN-C's first layer.
        features: shape of a sample, channels first, whose product is D; channels lie side by side in memory.
    """

    operation: str
    dtype: str = "float32"
    views: int = 8
    batch: int = 128
    features: tuple[int, ...] = (96, 32, 32)

    @property
    def groups(self) -> str:
        """What the samples are grouped by, for people."""
        if self.operation == "distances":
            return "–"
        return f"{self.views} views" if self.views else "any"

    @property
    def element_size(self) -> int:
        """Bytes of a feature."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype.itemsize

    @property
    def shape(self) -> str:
        """B × features, for people."""
        return " × ".join(map(str, (self.batch, *self.features)))

    @property
    def name(self) -> str:
        """One line that no other variant has."""
        return f"{self.operation}, {self.dtype}, {self.groups}, {self.shape}"

    def run(self) -> None:
        """Call the operation and its derivative."""
        channels, *pixels = self.features
        stored = torch.empty(self.batch, *pixels, channels, dtype=getattr(torch, self.dtype))
        x = stored.movedim(-1, 1).requires_grad_()
        if self.views:
            groups = Groups.consecutive(self.batch // self.views, self.views)
        else:
            groups = Groups.from_ids(torch.arange(self.batch) % 16)
        OPERATIONS[self.operation](x, groups)


_FUSED = "bias + ReLU + loss"
_PAIRS = "loss by pairs"
_LAST_LAYER = (10, 8, 8)
_UNALIGNED = (97,)  # rows that do not start at multiples of 16 bytes
VARIANTS = (
    *(Variant(operation) for operation in ("loss", "loss (added)", "ReLU + loss", _FUSED)),
    *(Variant(_FUSED, dtype) for dtype in ("bfloat16", "float16", "float64")),
    *(Variant(_FUSED, views=views) for views in (2, 16, 32)),  # both sides of where loops are no longer unrolled
    *(Variant(operation, views=0) for operation in ("loss", _FUSED)),
    Variant(_FUSED, "bfloat16", views=0),
    *(Variant(_FUSED, dtype, features=_LAST_LAYER) for dtype in ("float32", "bfloat16")),
    Variant(_FUSED, batch=4096, features=_LAST_LAYER),
    Variant(_FUSED, features=_UNALIGNED),
    *(Variant(_PAIRS, dtype) for dtype in ("float32", "bfloat16", "float64")),
    Variant(_PAIRS, views=0),
    Variant(_PAIRS, features=_UNALIGNED),
    Variant("ReLU + loss by pairs"),
    *(Variant("distances", dtype, views=0) for dtype in ("float32", "float64")),
)


class Usage(TypedDict):
    """What a thread takes."""

    registers: int
    spills: int  # loads and stores of spilled registers (NVIDIA), spilled registers (AMD)
    stack_bytes: int


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


class Nvidia:
    """Machine code of an NVIDIA GPU.

    Args:
        assembly: what nvdisasm says.
        resources: what ``cuobjdump -res-usage`` says.
    """

    _MOVE = re.compile(r"\b(LDG|LDGSTS|STG)([.\w]*) ")
    _BYTES: ClassVar = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
    _ATOMIC = re.compile(r"\b(?:ATOM|ATOMG|RED|REDG)\.[.\w]*")  # but not REDUX, which adds up within a warp
    _SPILL = re.compile(r"\b(?:LDL|STL)\b")

    def __init__(self, assembly: str, resources: str) -> None:
        self._assembly = assembly
        self._resources = resources

    @classmethod
    def disassembled(cls, cubin: bytes) -> Nvidia:
        """Read a binary with the tools that come with Triton."""
        from triton import knobs

        def output(*command: str) -> str:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(cubin)
            file.flush()
            return cls(
                output(knobs.nvidia.nvdisasm.path, "--print-code", "--no-dataflow", file.name),
                output(knobs.nvidia.cuobjdump.path, "-res-usage", file.name),
            )

    def usage(self) -> Usage:
        """Registers, spills and stack."""
        used = dict(re.findall(r"\b(REG|STACK):(\d+)", self._resources))
        spills = len(self._SPILL.findall(self._assembly))
        return Usage(registers=int(used["REG"]), spills=spills, stack_bytes=int(used["STACK"]))

    def atomics(self) -> list[str]:
        """Atomic operations on memory."""
        return self._ATOMIC.findall(self._assembly)

    def moves(self, what: str) -> dict[str, int]:
        """Loads or stores of global memory by width."""
        found = self._MOVE.findall(self._assembly)
        kinds = [kind.split(".") for name, kind in found if (name == "STG") == (what == "store")]
        return _counted(next((size for name, size in self._BYTES.items() if name in kind), 4) for kind in kinds)


class Amd:
    """Machine code of an AMD GPU.

    Args:
        assembly: with the metadata at its end.
    """

    _MOVE = re.compile(r"\b(?:global|buffer|flat)_(load|store)_(?:lds_)?[us]?(byte|short|dword)(?:x(\d))?")
    _BYTES: ClassVar = {"byte": 1, "short": 2, "dword": 4}
    _ATOMIC = re.compile(r"\b(?:global|buffer|flat)_atomic_\w+")

    def __init__(self, assembly: str) -> None:
        self._assembly = assembly

    def usage(self) -> Usage:
        """Registers, spills and stack."""
        used = {name: int(n) for name, n in re.findall(r"^\s+\.(\w+):\s+(\d+)$", self._assembly, re.MULTILINE)}
        spills = used["vgpr_spill_count"] + used["sgpr_spill_count"]
        return Usage(registers=used["vgpr_count"], spills=spills, stack_bytes=used["private_segment_fixed_size"])

    def atomics(self) -> list[str]:
        """Atomic operations on memory."""
        return self._ATOMIC.findall(self._assembly)

    def moves(self, what: str) -> dict[str, int]:
        """Loads or stores of global memory by width."""
        found = self._MOVE.findall(self._assembly)
        return _counted(self._BYTES[kind] * int(times or 1) for done, kind, times in found if done == what)


def _counted(sizes: Iterable[int]) -> dict[str, int]:
    return {str(size): count for size, count in sorted(Counter(sizes).items())}


class LlvmCode:
    """A kernel one step before machine code, where it can still be traced which argument an address comes from.

    Args:
        llir: LLVM's code of a kernel.
        arguments: names of the kernel's arguments in their order.
    """

    _DEFINITION = re.compile(r"^ +(?P<name>%[\w.]+) = (?P<value>.*)$", re.MULTILINE)
    _ADDRESS = re.compile(r"getelementptr|addrspacecast|phi ptr|select .*ptr|.*make\.buffer\.rsrc")
    _POINTER = re.compile(r"\bptr addrspace\([18]\)[^%,]*(%[\w.]+)")  # to global memory; 8: a buffer of AMD's
    _MOVES = (
        re.compile(r"(?P<what>ld|st)\.global[.\w]*?(?:\.v(?P<times>\d))?\.b(?P<bits>\d+)"),  # PTX within LLVM
        re.compile(r"(?P<what>cp)\.async\.[.\w]*\.global.*?, 0x(?P<bytes>\w+)"),
        re.compile(r"buffer\.(?P<what>load|store)\.(?:v(?P<times>\d+))?[a-z]+(?P<bits>\d+)\("),
        re.compile(r"\b(?P<what>load|store) (?:<(?P<times>\d+) x )?(?:i(?P<bits>\d+)|(?P<kind>b?float|double|half))"),
    )
    _WHAT: ClassVar = {"ld": "load", "cp": "load", "st": "store"}
    _BITS: ClassVar = {"float": 32, "double": 64, "half": 16, "bfloat": 16}

    def __init__(self, llir: str, arguments: list[str]) -> None:
        start = llir.index("define ")
        head, *self._lines = llir[start : llir.index("\n}", start)].splitlines()
        numbered = {f"%{index}": name for index, name in enumerate(arguments)}
        self._arguments = {name: numbered[name] for name in self._POINTER.findall(head) if name in numbered}
        definitions = (match for line in self._lines if (match := self._DEFINITION.match(line)))
        self._operands = {
            match["name"]: re.findall(r"%[\w.]+", match["value"])
            for match in definitions
            if self._ADDRESS.match(match["value"])
        }

    def argument_moves(self, what: str) -> dict[str, list[int]]:
        """How many bytes the instructions move that load or store through each argument."""
        found: dict[str, set[int]] = {}
        for line in self._lines:
            if (pointer := self._POINTER.search(line)) and (move := self._move(line)) and move[0] == what:
                for argument in self._origins(pointer[1]):
                    found.setdefault(argument, set()).add(move[1])
        return {name: sorted(sizes) for name, sizes in sorted(found.items())}

    def _move(self, line: str) -> tuple[str, int] | None:
        """What an instruction does to memory, and to how many bytes."""
        for pattern in self._MOVES:
            if match := pattern.search(line):
                found = match.groupdict()
                what = self._WHAT.get(found["what"], found["what"])
                if "bytes" in found:
                    return what, int(found["bytes"], 16)
                bits = int(found["bits"]) if found["bits"] else self._BITS[found["kind"]]
                return what, int(found["times"] or 1) * bits // 8
        return None

    def _origins(self, address: str) -> set[str]:
        """The arguments that an address can come from."""
        seen: set[str] = set()
        waiting = [address]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self._operands.get(name, [])
        return {self._arguments[name] for name in seen if name in self._arguments}


if __name__ == "__main__":
    only = sys.argv[2:] or [variant.name for variant in VARIANTS]
    for launch in compile_variants(sys.argv[1], [variant for variant in VARIANTS if variant.name in only]):
        print(json.dumps(launch), flush=True)
