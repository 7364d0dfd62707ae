"""Signals that end a process: an exception at once, or a request that waits for a good moment.

They are SIGINT (Ctrl-C), SIGTERM (a scheduler, a machine that goes down) and SIGHUP (the terminal
was closed; ignored under nohup).
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))

_HANG_UP = getattr(signal, "SIGHUP", None)


class Stopped(BaseException):
    """The user, or the machine's scheduler, asked this process to stop.

    No Exception, as KeyboardInterrupt is none: whoever handles errors must not handle this.
    """

    def __init__(self, number: int, what: str = "") -> None:
        """`what` was saved and how to go on, in a line."""
        super().__init__(number, what)
        self.number, self.what = signal.Signals(number), what

    @property
    def status(self) -> int:
        """The exit status that a shell gives to a process that this signal ended."""
        return 128 + self.number

    def __str__(self) -> str:
        return f"stopped by {self.number.name}" + (f"; {self.what}" if self.what else "")


@contextmanager
def raised() -> Iterator[None]:
    """A block in which these signals raise `Stopped`, in the main thread."""
    with _handled(_raise, STOPPING):
        yield


class Request:
    """A signal that must not interrupt. Whoever works looks at `number`, which is None before."""

    def __init__(self, announcement: str) -> None:
        """`announcement`: what the process does before it stops, for the user who waits."""
        self.announcement = announcement
        self.number: int | None = None

    @contextmanager
    def awaited(self, also: Iterable[int] = ()) -> Iterator[None]:
        """A block in which these signals, and those of `also`, are kept in `number`."""
        with _handled(self._receive, (*STOPPING, *also)):
            yield

    def listen(self, also: Iterable[int] = ()) -> None:
        """Within `awaited`: take the signals back from somebody who has taken them since."""
        _handle({number: self._receive for number in (*STOPPING, *also)})

    def _receive(self, number: int, _: FrameType | None) -> None:
        """Keep the first signal. A second one ends the process where it stands."""
        name = signal.Signals(number).name
        if self.number is not None:
            os.write(2, f"\n{name} again: stopped at once\n".encode())
            os._exit(128 + number)
        self.number = number
        os.write(2, f"\n{name}: {self.announcement}; once more to stop at once\n".encode())


def _raise(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def _handled(handler: Any, numbers: Iterable[int]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in numbers}
    _handle({number: handler for number in before})
    try:
        yield
    finally:
        _handle(before)


def _handle(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # no other may
        for number, handler in handlers.items():
            if number != _HANG_UP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)
