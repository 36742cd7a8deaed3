"""How a suite says what it does: to whoever listens, a count of steps."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, int, int], None]  # what is going on, how much is done, and of how much


def silent(_what: str, _done: int, _total: int) -> None:
    """Tells nobody."""


class Steps:
    """Counts.

    Args:
        tell: told after every step.
        total: how many there will be.
    """

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell, self._done, self._total = tell, 0, total

    def __call__(self, what: str, steps: int = 1) -> None:
        """Some steps are done."""
        self._done += steps
        self._tell(what, self._done, self._total)
