"""What a kernel takes of a GPU, read from its machine code."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, TypedDict


class Usage(TypedDict):
    """What a thread takes."""

    registers: int
    spills: int  # loads and stores of spilled registers (NVIDIA), spilled registers (AMD)
    stack_bytes: int


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
