"""Tasks written into a share of the training windows: what there is to find, copy and ignore.

A window is plain text, or text with

    passkey  keys that are stated and later asked for (`data.passkey`)
    strings  a string of random letters and digits, two times or more: nothing helps but copying
    repeats  a passage of its own, pasted again later
    splices  a beginning from elsewhere: far text that says nothing about what is near

A key of that name under `data` holds the share. What is written is a function of random words
alone (`data.tasks.Windows`).

Shapes: N windows, L tokens of one, the last target included.
"""

import string

import numpy as np

from data.passkey import (
    STATEMENT,
    TRAINING_KEYS,
    character_ids,
    draw_keys,
    draw_names,
    statements,
)
from data.tasks import WORDS, Task, Windows, register
from data.tokenizers import Tokenizer

MOST_KEYS = 5  # in a window, each stated and asked for
SHORTEST, LONGEST = 32, 160  # tokens of a passage that is pasted again
SHARE = 3  # and no longer than a third of the window
SHORTEST_STRING = 8  # tokens; and no longer than half of the window
LEAST_CONTEXT = 32  # tokens of a spliced window that are its own, and of its beginning

STRING_CHARACTERS = np.frombuffer((string.ascii_lowercase + string.digits).encode(), np.uint8)

_SLOTS = 2 * MOST_KEYS
# The random words of a window with passkeys, by what they decide
_PARTS = {"count": 1, "end": 1, "names": MOST_KEYS, "keys": MOST_KEYS, "places": _SLOTS}
_PARTS |= {"order": _SLOTS}
assert sum(_PARTS.values()) == WORDS


@register("passkey")
class Passkeys(Task):
    """1 to 5 keys that are stated and asked for, at random places of a window.

    Statements replace text and never overlap; that which comes second is the question with its
    answer. In half of the windows a question is the last thing.
    """

    least = 2 * STATEMENT - 1

    def __init__(self, tokenizer: Tokenizer) -> None:
        """ValueError if `tokenizer` has no token for a character of the statements."""
        self.characters = character_ids(tokenizer)

    def write(self, windows: Windows) -> np.ndarray:
        """The windows with every key in two of their slots for statements: int64 (N, L)."""
        ends = np.cumsum([*_PARTS.values()])[:-1]
        parts = dict(zip(_PARTS, np.split(windows.words, ends, axis=1), strict=True))
        there, places = _slots(parts, windows.text.shape[1])
        order = np.where(there, parts["order"], np.uint64(2**64 - 1)).argsort(axis=1, kind="stable")
        key_of = np.empty_like(order)  # two of the slots for each key, at random
        np.put_along_axis(key_of, order, np.arange(_SLOTS)[None] // 2, axis=1)

        text = statements(draw_names(parts["names"]), draw_keys(parts["keys"], TRAINING_KEYS))
        row, slot = np.nonzero(there)
        at = places[row, slot][:, None] + np.arange(STATEMENT)
        written = windows.text.copy()
        written[row[:, None], at] = self.characters[text[row, key_of[row, slot]]]
        return written


def _slots(parts: dict[str, np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Which slots for statements a window of `length` tokens uses, and where they begin.

    Booleans and int64, (N, _SLOTS) each.
    """
    most = min(MOST_KEYS, length // (2 * STATEMENT))
    used = 2 * (1 + _below(parts["count"], most))  # (N, 1)
    there = np.arange(_SLOTS) < used
    free = length - used * STATEMENT  # (N, 1): tokens of text that stay
    # Text before each slot; a slot that is not used is sorted behind the others.
    before = np.where(there, _below(parts["places"], free + 1), free)
    before.sort(axis=1)
    last = (np.arange(_SLOTS) == used - 1) & (parts["end"] % np.uint64(2) == 0)
    return there, np.where(last, free, before) + STATEMENT * np.arange(_SLOTS)


@register("strings")
class Strings(Task):
    """A random string of letters and digits, two times or more, at random places of a window.

    From two copies of a long string far apart to the window full of one that is 8 characters long.
    """

    least = 2 * SHORTEST_STRING - 1

    def __init__(self, tokenizer: Tokenizer) -> None:
        """ValueError if `tokenizer` has no token for one of the characters."""
        self.characters = character_ids(tokenizer)

    def write(self, windows: Windows) -> np.ndarray:
        """The windows with copies of a string of their own over the text: int64 (N, L)."""
        length = windows.text.shape[1]
        more = windows.more(length + length // SHORTEST_STRING)  # for the letters, and the places
        size = SHORTEST_STRING + _below(windows.words[:, 0], length // 2 - SHORTEST_STRING + 1)
        copies = 2 + _below(windows.words[:, 1], length // size - 1)  # (N,), like the sizes
        letters = STRING_CHARACTERS[_below(more[:, :length], len(STRING_CHARACTERS))]
        written, texts, here = windows.text.copy(), self.characters[letters], np.arange(length)
        for row, text, m, n, places in zip(written, texts, size, copies, more, strict=True):
            before = np.sort(_below(places[length : length + n], length - n * m + 1))
            at = before + m * np.arange(n)
            offset = here - at[np.searchsorted(at, here, side="right") - 1]
            inside = (offset >= 0) & (offset < m)
            row[inside] = text[offset[inside]]
        return written


@register("repeats")
class Repeats(Task):
    """A passage of the window pasted over a later part of it, without overlap."""

    least = SHARE * SHORTEST - 1

    def write(self, windows: Windows) -> np.ndarray:
        """The windows with a passage of their own twice: int64 (N, L)."""
        length, words = windows.text.shape[1], windows.words
        longest = min(LONGEST, length // SHARE)
        size = SHORTEST + _below(words[:, :1], longest - SHORTEST + 1)  # (N, 1)
        free = length - 2 * size
        before = np.sort(_below(words[:, 1:3], free + 1), axis=1)  # other text before each of both
        source, paste = before[:, :1], before[:, 1:] + size
        here = np.arange(length)
        pasted = (here >= paste) & (here < paste + size)
        read = np.where(pasted, here - paste + source, here)
        return np.take_along_axis(windows.text, read, axis=1)


@register("splices")
class Splices(Task):
    """A beginning of random length that is that of another window of the batch."""

    least = 2 * LEAST_CONTEXT - 1

    @staticmethod
    def problems(share: float, batch_size: int) -> list[str]:
        """A batch of one window has no other."""
        if batch_size > 1:
            return []
        return [
            f"data.splices={share}: begins windows with others of the same batch, but "
            "data.batch_size=1; try data.batch_size=8 or data.splices=0"
        ]

    def write(self, windows: Windows) -> np.ndarray:
        """The windows with the beginnings of others: int64 (N, L)."""
        length = windows.text.shape[1]
        cut = LEAST_CONTEXT + _below(windows.words[:, 0], length - 2 * LEAST_CONTEXT + 1)  # (N,)
        return np.where(np.arange(length) < cut[:, None], windows.other, windows.text)


def _below(words: np.ndarray, end: int | np.ndarray) -> np.ndarray:
    """Random words, uint64, as integers from 0 to end - 1: int64, with a bias below 2^-40."""
    return (words % np.asarray(end).astype(np.uint64)).astype(np.int64)
