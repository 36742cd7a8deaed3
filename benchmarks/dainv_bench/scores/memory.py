"""Peak memory of an arm on a CPU: how far a process of its own rises above what it held before."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
_PEAK_IS_NOW = "5"  # what resets the peak, by proc(5)


def peak_above(work: Callable[[], _T]) -> tuple[_T, int | None]:
    """What the work gives, and the most resident memory during it above that before it, in bytes.

    Torch's allocations on a CPU are the process's. Linux counts their peak (VmHWM) and lets a process reset it; what
    an earlier allocation has left to the allocator is given back first, so that it cannot be used uncounted.

    Returns:
        The work's result, and None in place of bytes where the system does not count so.
    """
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text(_PEAK_IS_NOW)
        before = _status("VmRSS")
    except (OSError, KeyError):
        return work(), None
    result = work()
    return result, max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    """Bytes that the system says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return 1024 * int(fields[field].split()[0])
