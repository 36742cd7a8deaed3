"""What the kernels take, for people: a line a target, and a table for kernels/README.md."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dainv_bench.blocks import rewrite_block
from dainv_bench.resources.results import KernelResources, ResourcesResult, committed_results, load_bytes, triton_of
from dainv_bench.resources.variants import TARGETS, Variant

README = Path("kernels/README.md")
# Sides of the tiles that are not all of a kernel's constants, once each: a pair of samples has two.
_TILES = {"pair_tiles_kernel": ("BLOCK", "BLOCK", "BLOCK_D"), "matrix_kernel": ("BLOCK", "BLOCK")}


def resources_summary(result: ResourcesResult) -> list[str]:
    """A line for each target."""
    lines = []
    for target in _targets(result):
        compiled = [kernel["compiled"][target] for kernel in result["kernels"] if target in kernel["compiled"]]
        registers = [one["registers"] for one in compiled]
        spilling = sum(one["spills"] > 0 for one in compiled)
        lines.append(
            f"{target}: {len(compiled)} kernels, {min(registers)} to {max(registers)} registers, at most "
            f"{max(one['shared_bytes'] for one in compiled)} bytes of shared memory, {spilling or 'none'} with spills"
        )
    return lines


def rewrite_readme() -> bool:
    """Bring the table in kernels/README.md up to date with the results; False where there is no such table."""
    results = committed_results()
    return bool(results) and rewrite_block(README, "resources", resources_markdown(results))


def resources_markdown(results: list[ResourcesResult]) -> str:
    """A table of the first result and a line for each of the others."""
    newest, *others = results
    targets = _targets(newest)
    headings = ["kernel", "operation", "features", "groups", "B × D", "tile", *targets]
    lines = [
        f"Triton {triton_of(newest)}, by target: registers of a thread / bytes of shared memory of a block / bytes of "
        f"a load of features. Kernels that differ in registers alone share a row. {_spills(newest)}",
        "",
        _line(headings),
        "|" + "---|" * len(headings),
        *(_line(_row(alike, newest["variants"], targets)) for alike in _alike(newest, targets)),
    ]
    for other in others:
        lines += ["", _difference(other, newest)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _alike(result: ResourcesResult, targets: list[str]) -> Iterable[list[KernelResources]]:
    """Kernels with the same tile, of features of the same size if they read any, that differ in registers alone."""
    rows: dict[tuple[Any, ...], list[KernelResources]] = {}
    for kernel in result["kernels"]:
        sizes = {Variant(**result["variants"][name]).element_size for name in kernel["variants"]}
        cells = (_cell([kernel], target).partition(" / ")[2] for target in targets)
        key = (kernel["kernel"], _tile(kernel), *(sizes if kernel["features"] else ()), *cells)
        rows.setdefault(key, []).append(kernel)
    return rows.values()


def _row(alike: list[KernelResources], variants: dict[str, dict[str, Any]], targets: list[str]) -> list[str]:
    used = [Variant(**variants[name]) for kernel in alike for name in kernel["variants"]]

    def distinct(values: Iterable[str]) -> str:
        found = list(dict.fromkeys(values))
        return ", ".join(found) if len(found) <= 2 else "several"

    return [
        f"`{alike[0]['kernel']}`",
        distinct(variant.operation for variant in used),
        distinct(variant.dtype for variant in used),
        distinct(variant.groups for variant in used),
        distinct(variant.shape for variant in used),
        _tile(alike[0]),
        *(_cell(alike, target) for target in targets),
    ]


def _tile(kernel: KernelResources) -> str:
    sizes = {name: value for name, value in kernel["constants"].items() if "BLOCK" in name}
    names = _TILES.get(kernel["kernel"], tuple(sizes))
    return " × ".join(str(sizes[name]) for name in names)


def _cell(alike: list[KernelResources], target: str) -> str:
    """What kernels take that differ in registers alone; nothing if they are not compiled for the target."""
    here = [kernel["compiled"][target] for kernel in alike if target in kernel["compiled"]]
    if not here:
        return ""
    fewest, most = (of(compiled["registers"] for compiled in here) for of in (min, max))
    registers = f"{fewest} to {most}" if fewest < most else f"{most}"
    cell = f"{registers} / {here[0]['shared_bytes']} / {load_bytes(alike[0], target) or '–'}"
    return cell + (f", {here[0]['spills']} spills" if here[0]["spills"] else "")


def _targets(result: ResourcesResult) -> list[str]:
    return [target for target in TARGETS if any(target in kernel["compiled"] for kernel in result["kernels"])]


def _spills(result: ResourcesResult) -> str:
    with_spills = [
        target
        for target in _targets(result)
        if any(kernel["compiled"][target]["spills"] for kernel in result["kernels"] if target in kernel["compiled"])
    ]
    return f"Registers are spilled on {' and '.join(with_spills) or 'none of them'}."


def _difference(other: ResourcesResult, newest: ResourcesResult) -> str:
    """What another Triton makes of the same kernels, in a sentence or two."""
    twins = {(kernel["kernel"], *kernel["variants"]): kernel for kernel in newest["kernels"]}
    pairs = [
        (kernel, twin, target)
        for kernel in other["kernels"]
        if (twin := twins.get((kernel["kernel"], *kernel["variants"]))) is not None
        for target in kernel["compiled"].keys() & twin["compiled"].keys()
    ]
    more = [one["compiled"][target]["registers"] - two["compiled"][target]["registers"] for one, two, target in pairs]
    as_wide = sum(load_bytes(one, target) == load_bytes(two, target) for one, two, target in pairs)
    return (
        f"Triton {triton_of(other)} takes {min(more):+d} to {max(more):+d} registers for {len(pairs)} of all the "
        f"binaries; {'all' if as_wide == len(pairs) else as_wide} of these load as wide. {_spills(other)}"
    )
