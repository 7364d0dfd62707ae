"""Mistakes of the user, told in a line for each and exit status 2."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what no user has done wrong


class UserError(Exception):
    """A mistake to be told without a traceback: the key, the value, the rule, what works."""


@contextmanager
def user_errors() -> Iterator[None]:
    """A ValueError of a room, while a run is being put together, is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def refuse(lines: Sequence[str]) -> None:
    """Raise a UserError of these lines, if there are any."""
    if lines:
        raise UserError("\n       ".join(lines))  # below the first one, which follows "error: "
