"""Which of a kernel's arguments are moved in how many bytes, read from LLVM's code."""

from __future__ import annotations

import re
from typing import ClassVar


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
