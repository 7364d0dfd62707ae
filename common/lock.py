"""One process at a time in a directory: a lock that dies with its process.

The lock is the kernel's (flock), so that it ends when its process does, however it ends. What the
file `.lock` says, `host pid`, is for people and stays behind. Where there is no flock (Windows,
some network file systems) a lock holds nothing and keeps nobody out.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_TAKEN = (errno.EAGAIN, errno.EACCES)  # by another; every other error means that there are no locks
_SECOND_LOOK = 0.05  # seconds, in which another's `is_held` ends and a new holder writes its name


class Held(Exception):
    """Another process has the lock: `pid` on `host`, each None where the file does not say."""

    def __init__(self, host: str | None, pid: int | None) -> None:
        super().__init__(f"process {pid} on host {host}" if host else "another process")
        self.host, self.pid = host, pid


class Lock:
    """A lock that is held until `release`, or until the process ends. `hold` makes it."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """Let others have it; once is enough."""
        self._forget()
        _held.discard(self)

    def _forget(self) -> None:
        # Closed, never unlocked: a forked child shares the lock itself with its parent.
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: set[Lock] = set()


def hold(directory: Path) -> Lock:
    """Take the lock of `directory`, which must exist.

    Raises Held where another process has it, or this one already; OSError where its file cannot be
    made.
    """
    file = _open(directory, os.O_RDWR | os.O_CREAT)
    try:
        if not _try(file, exclusive=True):
            time.sleep(_SECOND_LOOK)
            if not _try(file, exclusive=True):
                raise Held(*_holder(file))
        _write_holder(file)
    except BaseException:
        os.close(file)
        raise
    return Lock(file)


def is_held(directory: Path) -> bool:
    """Whether a process, this one included, has the lock of `directory`."""
    try:
        file = _open(directory, os.O_RDONLY)
    except OSError:
        return False  # nobody ever had it
    try:
        return not _try(file, exclusive=False)
    finally:
        os.close(file)


def release_all() -> None:
    """Release every lock of this process: the job that took them has ended."""
    for lock in tuple(_held):
        lock.release()


def _open(directory: Path, flags: int) -> int:
    # Not through a link, which may lead anywhere; without waiting for what is no file.
    never = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(directory / LOCK, flags | never, 0o644)


def _try(file: int, *, exclusive: bool) -> bool:
    """Whether the lock could be had, or there are no locks here."""
    if fcntl is None:
        return True
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN
    return True


def _holder(file: int) -> tuple[str | None, int | None]:
    host, _, pid = os.read(file, 300).decode("utf-8", "replace").strip().rpartition(" ")
    return (host, int(pid)) if host.isprintable() and host and pid.isdecimal() else (None, None)


def _write_holder(file: int) -> None:
    with suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(file, 0)
        os.write(file, f"{socket.gethostname()} {os.getpid()}\n".encode())


def _close_in_child() -> None:
    """A process that was forked, to make batches for one, must not keep the lock after it."""
    for lock in tuple(_held):
        lock._forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
