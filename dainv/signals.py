"""Stopping cleanly: SIGTERM, Ctrl-C and a terminal that closes become a wish that is looked at after each batch."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager, suppress
from types import FrameType
from typing import Any


class Interrupted(Exception):  # not an error: the state is saved
    """One of the signals; the state was saved before this was raised."""


class StopSignals(AbstractContextManager["StopSignals"]):
    """Turns SIGTERM, SIGHUP and the first Ctrl-C into a flag; a Ctrl-C after that means now.

    The others may come twice for one reason, as SIGHUP does from a terminal and from its shell. Where ``nohup`` has
    SIGHUP ignored, it stays so.

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
        if not self.received:
            self.received = True
            self._say("stopping after this batch; the state will be saved")
        elif number == signal.SIGINT and not self._several:
            signal.signal(number, self._before[number])
            self._say("stopping now; what was saved last is kept")
            raise KeyboardInterrupt

    def _say(self, text: str) -> None:
        if self._announce:
            with suppress(OSError, RuntimeError):  # the terminal is gone, or was being written to
                print(text, file=sys.stderr)

    def __enter__(self) -> StopSignals:
        """Listen."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM, *_hangup()):
                self._before[number] = signal.signal(number, self._receive)
        except ValueError:  # not the main thread, which alone may handle signals
            pass
        return self

    def __exit__(self, *_exception: object) -> None:
        """Listen no longer."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _hangup() -> tuple[signal.Signals, ...]:
    """SIGHUP, where there is one and it is not ignored."""
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return ()
    return (signal.SIGHUP,)
