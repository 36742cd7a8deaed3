"""``dainv-bench resources``: what the Triton kernels take of a GPU, on a machine without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from dainv.errors import UserError
from dainv_bench.progress import Tell, silent
from dainv_bench.resources.results import SUITE, KernelResources, ResourcesResult
from dainv_bench.resources.variants import TARGETS, VARIANTS
from dainv_bench.results import head_of


def measure_resources(
    targets: Iterable[str] = tuple(TARGETS),
    on_progress: Tell = silent,
) -> ResourcesResult:
    """Compile all variants for the targets and read what came out.

    Args:
        targets: keys of TARGETS.
        on_progress: told after every kernel what is going on, how many variants are done, and of how many.

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
            on_progress(f"{target} {record['kernel']}", len(done), len(targets) * len(VARIANTS))

        return _in_a_process_of_its_own(target, on_record)

    with ThreadPoolExecutor(min(len(targets), os.cpu_count() or 1)) as pool:
        records = dict(zip(targets, pool.map(compile_for, targets), strict=True))
    return ResourcesResult(
        **head_of(SUITE),
        variants={variant.name: asdict(variant) for variant in VARIANTS},
        kernels=_side_by_side(records),
    )


def _in_a_process_of_its_own(target: str, on_record: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
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
            *(variant.name for variant in VARIANTS),
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
