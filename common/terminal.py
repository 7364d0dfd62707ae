"""Words on the screen that are no result: progress and announcements, which `--quiet` keeps back.

Tables, the last lines of a run, generated text, warnings and errors are printed all the same.
"""

import sys
from typing import TextIO

_quiet = [False]


def set_quiet(quiet: bool = True) -> None:
    """Keep progress and announcements back from now on, or not any more."""
    _quiet[0] = quiet


def is_quiet() -> bool:
    """Whether progress and announcements are kept back; every bar asks."""
    return _quiet[0]


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line of progress or an announcement at once, unless it was asked to be quiet."""
    if not is_quiet():
        print(text, file=file or sys.stdout, flush=True)
