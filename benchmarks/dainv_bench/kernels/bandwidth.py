"""What the memory of a device can do: a large copy, timed in the same rounds as the kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch

# Several times any cache: a copy that fits in one would be faster than memory is.
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
_CPU_CACHE_BYTES = 1 << 26  # of a large processor; torch does not say
# Input sets together are so many times the cache.
_TIMES_THE_CACHE = {"cuda": 4, "cpu": 2}
_MOST_SETS = 128


def cache_bytes(device: torch.device) -> int:
    """The last cache before memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return _CPU_CACHE_BYTES


def sets_beyond_cache(nbytes: int, device: torch.device) -> int:
    """How many inputs of that size to go through in turn, so that none is found in the cache.

    At most 128: those of the smallest layer then stay in the cache of a large GPU, which results say.
    """
    needed = -(-_TIMES_THE_CACHE.get(device.type, 2) * cache_bytes(device) // nbytes)
    return min(max(needed, 2), _MOST_SETS)


class Copy:
    """A copy from one large tensor to another.

    Args:
        device: whose memory.

    Attributes:
        device: whose memory.
        nbytes: bytes read and written.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        size = _COPY_BYTES.get(device.type, _COPY_BYTES["cpu"])
        self._source, self._target = (
            torch.empty(size, dtype=torch.uint8, device=device).random_()  # some memories are faster on zeros
            for _ in range(2)
        )
        self.nbytes = 2 * size

    def calls(self) -> list[Callable[[], object]]:
        """There and back, so that neither tensor is only read."""
        return [lambda: self._target.copy_(self._source), lambda: self._source.copy_(self._target)]


def gigabytes_per_second(nbytes: int, milliseconds: float) -> float:
    """10^9 bytes a second."""
    return nbytes / milliseconds / 1e6
