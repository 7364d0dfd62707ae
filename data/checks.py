"""How a wrong setting is put into words: the key, the value, the rule, a value that works."""

import difflib
from collections.abc import Iterable
from typing import Any


def unknown_name(key: str, value: Any, kind: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is none of `known`, with the nearest one as a suggestion."""
    known = sorted(known)
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {close[0]}? There are: " if close else "there are: "
    return ValueError(f"{key}={value}: no such {kind}; {hint}{', '.join(known)}")


def integer_problem(key: str, value: Any, minimum: int, example: int) -> str | None:
    """What is wrong with `value` as an integer of at least `minimum`; None if nothing is."""
    # True and False are ints to Python, and never what somebody meant by a number.
    if isinstance(value, int) and not isinstance(value, bool) and value >= minimum:
        return None
    return f"{key}={value}: must be an integer of at least {minimum}, e.g. {key}={example}"
