"""What else differs between two results: machine, versions, settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dainv_bench.reading import stages_of

_MACHINE = ("system", "cpu", "cpu_count", "cuda_devices", "settings.device")
_VERSIONS = ("dainv", "commit", "uncommitted_changes", "python", "libraries", "cuda", "nvidia_driver", "backends")
_LONGEST = 60


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[str]]:
    """Lines ``NAME: IN A → IN B`` by what they are about: ``machine``, ``versions``, ``settings``.

    Args:
        a: a result.
        b: another of the same suite.
    """
    one, other = _facts(a), _facts(b)
    found: dict[str, list[str]] = {"machine": [], "versions": [], "settings": []}
    for name in dict.fromkeys((*one, *other)):
        before, after = one.get(name), other.get(name)
        if before != after:
            found[_topic(name)].append(f"{name.removeprefix('settings.')}: {_shown(before)} → {_shown(after)}")
    return found


def _topic(name: str) -> str:
    if name in _MACHINE:
        return "machine"
    return "versions" if name.split(".")[0] in _VERSIONS else "settings"


def _facts(result: dict[str, Any]) -> dict[str, Any]:
    """Environment and settings without their nesting."""
    stages = {name: inner.get("settings", {}) for name, inner in stages_of(result, "").items()}
    return _flat({**result["environment"], "settings": {**result.get("settings", {}), **stages}})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return found


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
