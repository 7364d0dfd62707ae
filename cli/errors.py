"""Mistakes of the user, told in one or two lines and exit status 2."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake to be told without a traceback: the key, the value, the rule, what works."""


@contextmanager
def user_errors() -> Iterator[None]:
    """A ValueError of a room, while a run is being put together, is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`; did you mean X?` for the option nearest to `word` (lr: optimizer.lr), or nothing."""
    options = list(options)
    inner = [option for option in options if option.endswith(f".{word}")]
    nearest = inner or difflib.get_close_matches(word, options, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
