"""What the C library does with memory that a step frees: it makes large temporary tensors dear, or cheap."""

from __future__ import annotations

import os

from dainv.errors import UserError
from dainv.malloc import keep_freed_memory
from dainv_bench.overhead.settings import KEPT


def set_allocator(allocator: str) -> None:
    """Let this process keep what it frees, if that is asked for; it cannot be undone.

    Raises:
        UserError: it is asked for, and cannot be had.
    """
    if allocator == KEPT and not keep_freed_memory():
        raise UserError(
            f"--allocator {KEPT}: expected glibc, and no MALLOC_... or GLIBC_TUNABLES in the environment; unset them"
        )


def malloc_variables() -> dict[str, str]:
    """What the environment tells glibc about its memory."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"
    }
