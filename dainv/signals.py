"""Stopping cleanly: SIGTERM and Ctrl-C become a wish that training looks at after each step."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any


class Interrupted(Exception):  # not an error: the state is saved
    """SIGTERM or Ctrl-C; the state was saved before this was raised."""


class StopSignals(AbstractContextManager["StopSignals"]):
    """Turns the first SIGTERM or Ctrl-C into a flag; the second one means now.

    Args:
        announce: say so on stderr.
        several: of one of several processes. A launcher such as torchrun passes on a Ctrl-C that the terminal has sent
            to all of them already, and kills who does not end; so what comes after the first signal is ignored.

    Attributes:
        received: whether there was one.
    """

    def __init__(self, announce: bool = True, several: bool = False) -> None:
        self.received = False
        self._announce, self._several = announce, several
        self._before: dict[int, Any] = {}

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received and self._several:
            return
        if self.received:
            signal.signal(number, self._before[number])
            raise KeyboardInterrupt
        self.received = True
        if self._announce:
            print("stopping after this step; the state will be saved", file=sys.stderr)

    def __enter__(self) -> StopSignals:
        """Listen."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        except ValueError:  # not the main thread, which alone may handle signals
            pass
        return self

    def __exit__(self, *_exception: object) -> None:
        """Listen no longer."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
