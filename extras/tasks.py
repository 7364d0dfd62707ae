"""Tasks written into a share of the training windows: what there is to find, copy and ignore.

A window is plain text, or text with

    passkey  keys that are stated and later asked for (`data.passkey`)
    strings  a string of random letters and digits, two times or more: nothing helps but copying
    repeats  a passage of its own, pasted again later
    splices  a beginning from elsewhere: far text that says nothing about what is near

Which one, and everything in it, is a function of numbers, as the window's text is.

Shapes: N windows, L tokens of one, the last target included.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.rules import number, problems
from data.passkey import STATEMENT, TRAINING_KEYS, draw_keys, draw_names, statements

MOST_KEYS = 5  # in a window, each stated and asked for
SHORTEST, LONGEST = 32, 160  # tokens of a passage that is pasted again
SHARE = 3  # and no longer than a third of the window
SHORTEST_STRING = 8  # tokens; and no longer than half of the window
LEAST_CONTEXT = 32  # tokens of a spliced window that are its own, and of its beginning

STRING_CHARACTERS = np.frombuffer((string.ascii_lowercase + string.digits).encode(), np.uint8)

_SLOTS = 2 * MOST_KEYS
# The random words of a window: its kind, then those of its task; passkeys take the most.
_PARTS = {"count": 1, "end": 1, "names": MOST_KEYS, "keys": MOST_KEYS, "places": _SLOTS}
_PARTS |= {"order": _SLOTS}
_WORDS = 1 + sum(_PARTS.values())


@dataclass(frozen=True)
class Mixture:
    """The share of windows of each kind; the rest is plain text.

    `characters`: of `data.passkey.character_ids`; needed for passkeys and strings.
    """

    passkey: float = 0.0
    strings: float = 0.0
    repeats: float = 0.0
    splices: float = 0.0
    characters: np.ndarray | None = None

    @property
    def shares(self) -> dict[str, float]:
        """Those that are not 0, by name."""
        return {kind: getattr(self, kind) for kind in LEAST if getattr(self, kind)}


# The kinds of windows, in the order in which they share the numbers from 0 to 1, and the shortest
# data.seq_len that each fits.
LEAST = {
    "passkey": 2 * STATEMENT - 1,
    "strings": 2 * SHORTEST_STRING - 1,
    "repeats": SHARE * SHORTEST - 1,
    "splices": 2 * LEAST_CONTEXT - 1,
}


def mixture_problems(shares: Mapping[str, Any], seq_len: int, batch_size: int) -> list[str]:
    """A line for each rule on the shares, by kind, that is broken. The sizes are valid ones."""
    lines = problems(shares, dict.fromkeys(shares, number(0, 1, 0.2)), "data.")
    if lines:
        return lines
    for name, share in shares.items():
        if share and seq_len < LEAST[name]:
            lines.append(
                f"data.seq_len={seq_len}: must be at least {LEAST[name]} with data.{name}={share}, "
                f"whose task is that long; try data.seq_len=256 or data.{name}=0"
            )
    if not lines and shares["splices"] and batch_size == 1:
        lines.append(
            f"data.splices={shares['splices']}: begins windows with others of the same batch, but "
            "data.batch_size=1; try data.batch_size=8 or data.splices=0"
        )
    if not lines and sum(shares.values()) > 1:
        given = ", ".join(f"data.{name}={share}" for name, share in shares.items() if share)
        lines.append(
            f"{given}: are shares of the same windows, so their sum must be at most 1; "
            "try 0.2 for each"
        )
    return lines


def mix(windows: np.ndarray, mixture: Mixture, seed: int, step: int, rank: int) -> None:
    """Write the tasks into `windows`, int64 (N, L), in place."""
    # The words of `data.batches` have a 0 where these have a 1. Raw bits, as there.
    words = np.random.Philox(key=seed, counter=[0, 1, rank, step]).random_raw(len(windows) * _WORDS)
    words = words.reshape(-1, _WORDS)
    number = (words[:, 0] >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1), exactly
    ends = np.cumsum([getattr(mixture, kind) for kind in LEAST])
    which = np.searchsorted(ends, number, side="right")  # the place of each window's kind
    plain = windows.copy()
    for i, kind in enumerate(LEAST):
        rows = np.flatnonzero(which == i)
        if len(rows) and kind == "passkey":
            windows[rows] = with_passkeys(plain[rows], words[rows, 1:], mixture.characters)
        elif len(rows) and kind == "strings":
            per_window = windows.shape[1] + windows.shape[1] // SHORTEST_STRING
            more = np.random.Philox(key=seed, counter=[0, 2, rank, step])
            more = more.random_raw(len(rows) * per_window).reshape(len(rows), -1)
            windows[rows] = with_strings(plain[rows], words[rows, 1:], more, mixture.characters)
        elif len(rows) and kind == "repeats":
            windows[rows] = with_repeats(plain[rows], words[rows, 1:])
        elif len(rows):
            others = plain[(rows + 1) % len(plain)]
            windows[rows] = with_beginnings(plain[rows], others, words[rows, 1])


def with_passkeys(windows: np.ndarray, words: np.ndarray, characters: np.ndarray) -> np.ndarray:
    """`windows` (N, L) with 1 to 5 keys stated and asked for, at random places of theirs.

    Statements replace text and never overlap; that which comes second is the question with its
    answer. In half of the windows a question is the last thing.
    """
    length = windows.shape[1]
    part = dict(
        zip(_PARTS, np.split(words, np.cumsum([*_PARTS.values()])[:-1], axis=1), strict=True)
    )
    most = min(MOST_KEYS, length // (2 * STATEMENT))
    used = 2 * (1 + _below(part["count"], most))  # (N, 1): slots for statements
    there = np.arange(_SLOTS) < used  # (N, slots); what is not there is sorted behind
    free = length - used * STATEMENT  # (N, 1): tokens of text that stay
    before = np.where(there, _below(part["places"], free + 1), free)  # text before each slot
    before.sort(axis=1)
    last = (np.arange(_SLOTS) == used - 1) & (part["end"] % np.uint64(2) == 0)
    places = np.where(last, free, before) + STATEMENT * np.arange(_SLOTS)

    order = np.where(there, part["order"], np.uint64(2**64 - 1)).argsort(axis=1, kind="stable")
    key_of = np.empty_like(order)  # two of the slots for each key, at random
    np.put_along_axis(key_of, order, np.arange(_SLOTS)[None] // 2, axis=1)
    text = statements(draw_names(part["names"]), draw_keys(part["keys"], TRAINING_KEYS))
    row, slot = np.nonzero(there)
    at = places[row, slot][:, None] + np.arange(STATEMENT)
    windows = windows.copy()
    windows[row[:, None], at] = characters[text[row, key_of[row, slot]]]
    return windows


def with_repeats(windows: np.ndarray, words: np.ndarray) -> np.ndarray:
    """`windows` (N, L) with a passage of each pasted over a later part, without overlap."""
    length = windows.shape[1]
    longest = min(LONGEST, length // SHARE)
    size = SHORTEST + _below(words[:, :1], longest - SHORTEST + 1)  # (N, 1)
    free = length - 2 * size
    before = np.sort(_below(words[:, 1:3], free + 1), axis=1)  # other text before each of the two
    source, paste = before[:, :1], before[:, 1:] + size
    here = np.arange(length)
    pasted = (here >= paste) & (here < paste + size)
    return np.take_along_axis(windows, np.where(pasted, here - paste + source, here), axis=1)


def with_strings(
    windows: np.ndarray, words: np.ndarray, more: np.ndarray, characters: np.ndarray
) -> np.ndarray:
    """`windows` (N, L) with a random string in each, two times or more, at random places.

    From two copies of a long string far apart to the window full of one that is 8 characters long.
    `more`: random words, (N, L) for the letters and some (N, L // 8) for the places.
    """
    length = windows.shape[1]
    size = SHORTEST_STRING + _below(words[:, 0], length // 2 - SHORTEST_STRING + 1)  # (N,)
    copies = 2 + _below(words[:, 1], length // size - 1)
    letters = STRING_CHARACTERS[_below(more[:, :length], len(STRING_CHARACTERS))]
    windows, texts, here = windows.copy(), characters[letters], np.arange(length)  # texts (N, L)
    for row, text, m, n, places in zip(windows, texts, size, copies, more, strict=True):
        before = np.sort(_below(places[length : length + n], length - n * m + 1))
        at = before + m * np.arange(n)
        offset = here - at[np.searchsorted(at, here, side="right") - 1]
        inside = (offset >= 0) & (offset < m)
        row[inside] = text[offset[inside]]
    return windows


def with_beginnings(windows: np.ndarray, others: np.ndarray, words: np.ndarray) -> np.ndarray:
    """`windows` (N, L) whose beginnings, of random lengths, are those of `others` (N, L)."""
    length = windows.shape[1]
    cut = LEAST_CONTEXT + _below(words, length - 2 * LEAST_CONTEXT + 1)  # (N,)
    return np.where(np.arange(length) < cut[:, None], others, windows)


def _below(words: np.ndarray, end: int | np.ndarray) -> np.ndarray:
    """Random words, uint64, as integers from 0 to end - 1: int64, with a bias below 2^-40."""
    return (words % np.asarray(end).astype(np.uint64)).astype(np.int64)
