"""``dainv-bench resources``: what the Triton kernels take of a GPU, on a machine without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypedDict

from dainv.environment import environment
from dainv.errors import UserError
from dainv_bench.blocks import rewrite_block
from dainv_bench.resources.compilation import TARGETS, VARIANTS, Compiled, Variant
from dainv_bench.results import FOLDER, SCHEMA

SUITE = "kernel-resources"
README = Path("kernels/README.md")
# Sides of the tiles that are not all of a kernel's constants, once each: a pair of samples has two.
_TILES = {"pair_tiles_kernel": ("BLOCK", "BLOCK", "BLOCK_D"), "matrix_kernel": ("BLOCK", "BLOCK")}


class KernelResources(TypedDict):
    """A kernel as one or several variants launch it."""

    kernel: str
    variants: list[str]
    constants: dict[str, Any]
    warps: int
    features: list[str]  # the arguments with B × D elements
    compiled: dict[str, Compiled]  # by target


class ResourcesResult(TypedDict):
    """What ``dainv-bench resources`` writes; benchmarks/README.md explains every field."""

    schema: int
    suite: str
    date: str
    environment: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    kernels: list[KernelResources]


def measure_resources(
    targets: Iterable[str] = tuple(TARGETS),
    on_progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
    variants: Sequence[Variant] = VARIANTS,
) -> ResourcesResult:
    """Compile variants for the targets and read what came out.

    Args:
        targets: keys of TARGETS.
        on_progress: told after every kernel what is going on, how many variants are done, and of how many.
        variants: what to compile, some of VARIANTS.

    Raises:
        UserError: there is no such target, a kernel does not compile for it, or Triton is missing.
    """
    targets = list(dict.fromkeys(targets))
    for target in targets:
        if target not in TARGETS:
            raise UserError(f"--target: there is no target {target!r}; there are {', '.join(TARGETS)}")
    done: set[tuple[str, str]] = set()

    def compile_for(target: str) -> list[dict[str, Any]]:
        def on_record(record: dict[str, Any]) -> None:
            done.add((target, record["variant"]))
            on_progress(f"{target} {record['kernel']}", len(done), len(targets) * len(variants))

        return _in_a_process_of_its_own(target, variants, on_record)

    with ThreadPoolExecutor(min(len(targets), os.cpu_count() or 1)) as pool:
        records = dict(zip(targets, pool.map(compile_for, targets), strict=True))
    return ResourcesResult(
        schema=SCHEMA,
        suite=SUITE,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=environment(),
        variants={variant.name: asdict(variant) for variant in variants},
        kernels=_side_by_side(records),
    )


def _in_a_process_of_its_own(
    target: str, variants: Sequence[Variant], on_record: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Without TRITON_INTERPRET, which would leave nothing to compile, and with an empty cache, to really compile."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    records = []
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile("w+") as errors:
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TRITON_CACHE_DIR": cache}
        command = [
            sys.executable,
            "-m",
            "dainv_bench.resources.compilation",
            target,
            *(variant.name for variant in variants),
        ]
        with subprocess.Popen(
            command, env=inherited | variables, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            for line in process.stdout or ():
                records.append(json.loads(line))
                on_record(records[-1])
        if process.returncode != 0:
            errors.seek(0)
            said = [line.strip() for line in errors if line.strip()] or [f"exit code {process.returncode}"]
            raise UserError(f"the kernels do not compile for {target}: {said[-1]}")
    return records


def _side_by_side(records: dict[str, list[dict[str, Any]]]) -> list[KernelResources]:
    """One entry a kernel as it is launched, by whichever variants, with its targets next to each other."""
    entries: dict[tuple[str, ...], KernelResources] = {}
    for target, launches in records.items():
        same: dict[str, list[dict[str, Any]]] = {}
        for launch in launches:
            same.setdefault(launch["hash"], []).append(launch)
        for (first, *_), variants in ((one, [launch["variant"] for launch in one]) for one in same.values()):
            variants = list(dict.fromkeys(variants))
            entry = KernelResources(
                kernel=first["kernel"],
                variants=variants,
                constants=first["constants"],
                warps=first["warps"],
                features=first["features"],
                compiled={},
            )
            key = (first["kernel"], json.dumps(first["constants"]), *variants)
            entries.setdefault(key, entry)["compiled"][target] = first["compiled"]
    kernels = list(dict.fromkeys(entry["kernel"] for entry in entries.values()))
    return sorted(entries.values(), key=lambda entry: kernels.index(entry["kernel"]))


def load_bytes(kernel: KernelResources, target: str) -> int | None:
    """Bytes that a load of features has, the fewest of all arguments of that size; None for a kernel that reads none.

    Of each argument the widest load counts: the first row, which is read once more on its own, may go in smaller ones.
    """
    loads = kernel["compiled"][target]["argument_loads"]
    return min((max(loads[name]) for name in kernel["features"] if name in loads), default=None)


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


def default_resources_path(result: ResourcesResult) -> Path:
    """``benchmarks/results/kernel-resources--triton-VERSION.json``: no machine has an influence on what is in it."""
    return FOLDER / f"{SUITE}--triton-{_triton(result)}.json"


def committed_results(folder: Path = FOLDER) -> list[ResourcesResult]:
    """All results in the folder, that of the newest Triton first."""
    return newest_first([json.loads(path.read_text()) for path in folder.glob(f"{SUITE}--*.json")])


def newest_first(results: Iterable[ResourcesResult]) -> list[ResourcesResult]:
    """By the version of Triton."""
    return sorted(results, key=lambda result: [int(part) for part in re.findall(r"\d+", _triton(result))], reverse=True)


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
        f"Triton {_triton(newest)}, by target: registers of a thread / bytes of shared memory of a block / bytes of a "
        f"load of features. Kernels that differ in registers alone share a row. {_spills(newest)}",
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


def _triton(result: ResourcesResult) -> str:
    version: str = result["environment"]["libraries"]["triton"]
    return version


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
        f"Triton {_triton(other)} takes {min(more):+d} to {max(more):+d} registers for {len(pairs)} of all the "
        f"binaries; {'all' if as_wide == len(pairs) else as_wide} of these load as wide. {_spills(other)}"
    )
