"""The C library's memory, kept from one training step to the next.

A step on a CPU makes and drops tensors of tens of megabytes. glibc gives such blocks back to the operating system, and
their pages have to be mapped and cleared anew in every step. The size from which it does so cannot be raised above
32 MiB. So blocks with a mapping of their own are switched off, and so is giving back the end of the heap.
"""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER, _NONE = -1, 0


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next tensors.

    Nothing is changed where the C library is not glibc, and where ``MALLOC_...`` or ``GLIBC_TUNABLES`` in the
    environment say what the user wants of it. Another allocator that was preloaded is left alone: this is glibc's own.

    Returns:
        Whether it does.
    """
    chosen = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, _NONE)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
