"""How a command ends that cannot go on: a line on stderr, and an exit status that says whose it is.

2 is a mistake of the user's, 1 what the system refused.
"""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from cli.errors import FULL, UserError

REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)  # the system's word for what is not allowed


@contextmanager
def failures_told() -> Iterator[None]:
    """End the process by what the user, or the system, has done wrong, in a line.

    Here, before Hydra sees it, which would print a line of its own about any Exception.
    """
    try:
        yield
        sys.stdout.flush()  # at the interpreter's exit nobody could tell of a full disk
    except UserError as error:
        end_by_mistake(error)
    except BrokenPipeError:  # `| head` has seen enough
        _discard_output()
        sys.exit(0)
    except OSError as error:
        end_by_system(error)


def end_by_mistake(error: UserError) -> NoReturn:
    """Say what the user has to mend."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def end_by_system(error: OSError) -> NoReturn:
    """What the system refused: a full disk, a directory that is read-only or has vanished."""
    if isinstance(error, ChildProcessError):  # ours, with words of its own
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    unwritten = "stdout: " if _discard_output() else ""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else unwritten
    way_out = "see that it is there and can be read and written"
    if error.errno in FULL:
        way_out = "make room there"
    elif error.errno in REFUSED:
        way_out = "give it to this user, or take a place that can be written"
    print(f"error: {where}{error.strerror or error}; {way_out}", file=sys.stderr)
    sys.exit(1)


def _discard_output() -> bool:
    """Let what stdout still holds go nowhere, if it cannot be written; whether that is so."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def tell_of_a_thread(failure: threading.ExceptHookArgs) -> None:
    """As Python does, but for a thread that keeps its failure for who writes next.

    TensorBoard's does; the command then ends by that failure.
    """
    if not isinstance(getattr(failure.thread, "exception", None), OSError):
        threading.__excepthook__(failure)
