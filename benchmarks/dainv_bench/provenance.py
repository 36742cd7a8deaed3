"""Where a result comes from, in words: machine, versions, commit, load and date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def machine_of(result: Mapping[str, Any]) -> str:
    """The device that was measured, and what it sits in."""
    environment = result["environment"]
    host = f"{environment['cpu']} ({environment['cpu_count']} CPUs, threads: {environment['threads']})"
    on_cpu = result.get("settings", {}).get("device") == "cpu"
    gpus = [] if on_cpu else environment["cuda_devices"]
    if not gpus:
        return host
    driver = environment.get("nvidia_driver")
    return f"{', '.join(gpus)} in {host}, CUDA {environment['cuda']}{f', driver {driver}' if driver else ''}"


def commit_of(result: Mapping[str, Any]) -> str:
    """The commit and whether it is all that was run."""
    environment = result["environment"]
    if environment["commit"] is None:
        return "no commit known"
    state = {True: "with uncommitted changes", False: "nothing uncommitted", None: "state unknown"}
    return f"commit {environment['commit'][:9]}, {state[environment['uncommitted_changes']]}"


def date_of(result: Mapping[str, Any]) -> str:
    """The date, in UTC."""
    return str(result["date"]).replace("T", " ").replace("+00:00", " UTC")


def load_of(result: Mapping[str, Any]) -> str | None:
    """The load average before and after; None where it was not taken."""
    loads = {when: load[0] for when, load in result.get("load_average", {}).items() if load}
    return f"load average {', '.join(f'{load:.2f} {when}' for when, load in loads.items())}" if loads else None


def provenance(result: Mapping[str, Any]) -> str:
    """All of it in one sentence."""
    environment = result["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in environment["libraries"].items() if version)
    parts = [
        f"Measured {date_of(result)} on {machine_of(result)}, {environment['system']}",
        f"dainv {environment['dainv']}, {commit_of(result)}",
        f"Python {environment['python']}, {libraries}",
        load_of(result),
        "interrupted before it was done" if result.get("interrupted") else None,
    ]
    return "; ".join(part for part in parts if part) + "."
