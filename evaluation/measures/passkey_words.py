"""The passkey task in plain words, for models that were never trained on it.

    text text. The key of the candle is 40713. Remember: the key of the candle is 40713. text text
    text. What is the key of the candle? The key of the candle is 40713

A sentence stands in token ids as the tokenizer writes it in a text: it begins with a space, as
words do, and goes where the text has a word that begins with one. So no token reaches over a seam,
and the text on both sides keeps its own tokens.

Shapes: N trials, n sentences of one trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data.tokenizers import Tokenizer

STATEMENT = " The key of the {name} is {key}. Remember: the key of the {name} is {key}."
QUESTION = " What is the key of the {name}? The key of the {name} is"
ANSWER = " {key}"
NAMES = (
    *(
        "apple",
        "barrel",
        "basket",
        "bell",
        "boat",
        "bottle",
        "bridge",
        "candle",
        "carpet",
        "castle",
    ),
    *("chair", "church", "clock", "coat", "cottage", "drawer", "engine", "farm", "fence", "forest"),
    *(
        "garden",
        "hammer",
        "harbor",
        "horse",
        "island",
        "kitchen",
        "ladder",
        "lamp",
        "market",
        "mill",
    ),
    *(
        "mirror",
        "mountain",
        "needle",
        "oven",
        "palace",
        "pillow",
        "ring",
        "river",
        "shop",
        "window",
    ),
)
REACH = 64  # tokens within which a word begins, in a text that has spaces


@dataclass(frozen=True)
class Asked:
    """A trial in token ids.

    Attributes:
        statements: the sentences to hide; the first is the one that is asked for.
        question: with its answer.
        answer: how many tokens at its end are the answer.
    """

    statements: list[np.ndarray]
    question: np.ndarray
    answer: int

    @property
    def tokens(self) -> int:
        """Of a context, those that are no text of its own."""
        return sum(map(len, self.statements)) + len(self.question)


def questions(
    tokenizer: Tokenizer, names: np.ndarray, keys: np.ndarray, distractors: int
) -> list[Asked]:
    """Each trial's sentences; the first of its `names` and `keys`, (N, n) each, is asked for.

    `names`: random words, uint64; `keys`: numbers of five digits.
    """
    n = names.shape[1]
    size = len(NAMES) // n
    drawn = (names % np.uint64(size)).astype(int) * n + np.arange(n)  # no two alike in a row
    return [
        _asked(tokenizer, [(NAMES[name], f"{key:05d}") for name, key in zip(*row, strict=True)])
        for row in zip(drawn[:, : 1 + distractors], keys[:, : 1 + distractors], strict=True)
    ]


def _asked(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> Asked:
    statements = [
        behind_a_stop(tokenizer, STATEMENT.format(name=name, key=key)) for name, key in pairs
    ]
    name, key = pairs[0]
    question = QUESTION.format(name=name)
    alone = behind_a_stop(tokenizer, question)
    whole = behind_a_stop(tokenizer, question + ANSWER.format(key=key))
    return Asked(statements, whole, len(whole) - _shared(alone, whole))


def behind_a_stop(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The tokens of `text`, which begins with a space, where a sentence has ended before it.

    By itself it may have others: some tokenizers put a space before every text.
    """
    stop = tokenizer.encode(".")
    whole = tokenizer.encode(f".{text}")
    return np.asarray(whole[_shared(stop, whole) :], dtype=np.int64)


def _shared(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two begin with alike."""
    size = min(len(one), len(other))
    differing = np.flatnonzero(np.asarray(one[:size]) != np.asarray(other[:size]))
    return int(differing[0]) if len(differing) else size


@dataclass
class Words:
    """Where words begin in the token ids of a text."""

    tokenizer: Tokenizer
    _known: dict[int, bool] = field(default_factory=dict)

    def begins(self, token: int) -> bool:
        """Whether a token is the beginning of a word with a space before it."""
        if token not in self._known:
            # Behind another one: decoders take the space off the first token of a text.
            stop = self.tokenizer.encode(".")[-1:].tolist()
            piece = self.tokenizer.decode([*stop, token])[len(self.tokenizer.decode(stop)) :]
            self._known[token] = piece[:1] == " " and bool(piece[1:].strip())
        return self._known[token]

    def cut(self, text: np.ndarray, size: int) -> np.ndarray:
        """`size` tokens of `text` that end where a word does: as late as they can."""
        ends = range(len(text) - 1, max(size, len(text) - REACH) - 1, -1)
        end = next((end for end in ends if self.begins(int(text[end]))), len(text))
        return text[end - size : end]

    def next_after(self, text: np.ndarray, at: int) -> int:
        """Where a word begins, from `at` on; in a text without spaces, `at`."""
        near = range(at, min(at + REACH, len(text)))
        found = next((place for place in near if self.begins(int(text[place]))), None)
        return found if found is not None else at if at + REACH < len(text) else len(text)


def prompt(asked: Asked, text: np.ndarray, words: Words, places: Sequence[float]) -> np.ndarray:
    """As many tokens as `text` has, (S,): its end with the statements in it, and the question.

    `places`: of each statement, the share of the text that stands before it.
    """
    body = words.cut(text, len(text) - asked.tokens)
    at = [words.next_after(body, round(place * len(body))) for place in places]
    order = sorted(range(len(at)), key=lambda i: at[i])
    pieces, start = [], 0
    for i in order:
        pieces += [body[start : at[i]], asked.statements[i]]
        start = at[i]
    return np.concatenate([*pieces, body[start:], asked.question]).astype(np.int64)
