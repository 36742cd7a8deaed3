"""A process of its own: whose memory is nobody else's, and which can be killed."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

# A server that has imported everything once forks each process; where there is none, each imports for itself.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_PRELOADED = ["torch"]  # nothing of ours: the server may find another copy of it


class Ended(Exception):
    """The process ended without an answer.

    Attributes:
        code: its exit code; minus the signal that ended it.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(f"its process ended with exit code {code}")
        self.code = code


class Process:
    """Answers what it is sent, one message after the other; to be used with ``with``, which kills it at the end.

    Args:
        prepare: called there with ``arguments``; gives the function that answers.
        arguments: can be pickled, as ``prepare`` and all messages and answers have to be.
    """

    def __init__(self, prepare: Callable[..., Callable[[Any], Any]], *arguments: Any) -> None:
        context: Any = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload(_PRELOADED)
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, prepare, arguments), daemon=True)
        self._process.start()
        there.close()

    def __enter__(self) -> Process:
        """Itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Kill it."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def send(self, message: Any) -> None:
        """Ask, without waiting for the answer."""
        with suppress(OSError):  # it has ended; whoever waits for the answer is told
            self._connection.send(message)

    def receive(self) -> Any:
        """The next answer.

        Raises:
            Ended: there will be none.
        """
        try:
            answer, error = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(10)
            raise Ended(self._process.exitcode) from None
        if error is not None:
            raise error
        return answer

    def ask(self, message: Any) -> Any:
        """Send and receive."""
        self.send(message)
        return self.receive()


def _serve(connection: Connection, prepare: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; who asked will kill us
    try:
        answer = prepare(*arguments)
        while True:
            connection.send((answer(connection.recv()), None))
    except EOFError:
        pass  # nobody asks any more
    except Exception as error:
        connection.send((None, error))
