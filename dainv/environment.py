"""What a result was produced with: machine, libraries, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from dainv._version import __version__
from dainv_kernels import backend_status

_LIBRARIES = ("torch", "torchvision", "triton", "numpy", "scipy", "matplotlib", "scikit-learn")


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _nvidia_driver() -> str | None:
    try:
        found = re.search(r"Kernel Module.*?(\d+(\.\d+)+)", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return found.group(1) if found else None


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _in_a_checkout() -> bool:
    """Whether git knows this file. One installed inside somebody's project is not of that project's commit."""
    return _git("ls-files", "--error-unmatch", Path(__file__).name) is not None


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions, hardware and commit; no host name and no path, so that it can be published.

    The commit is None where this package does not lie in a checkout of its own, but was installed.

    Example:
        >>> sorted(environment()["libraries"])[-2:]
        ['torchvision', 'triton']
    """
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    checkout = _in_a_checkout()
    status = _git("status", "--porcelain", "--untracked-files=no") if checkout else None
    return {
        "dainv": __version__,
        "commit": _git("rev-parse", "HEAD") if checkout else None,
        "uncommitted_changes": None if status is None else bool(status),
        "python": platform.python_version(),
        "libraries": {library: _version(library) for library in _LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda_devices": devices,
        "cuda": torch.version.cuda,
        "nvidia_driver": _nvidia_driver() if devices else None,
        "backends": backend_status(),
    }
