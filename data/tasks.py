"""Tasks in training windows: a registry of their kinds, and the windows that they share out.

A kind of task has a key under `data`, which holds its share of the training windows; the windows
of no kind are plain text. The kinds themselves stand in `extras/tasks.py`: this room knows none by
name. Which window is of which kind, and everything that is written into it, is a function of
(seed, step, rank), as the window's text is.

Shapes: N windows of one kind, L tokens of one, the last target included.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from common.rules import number, problems
from data.tokenizers import Tokenizer

# Random words of a window for the task in it. A constant: with any other number every window of
# every run would be another one. A task that needs more of them draws them by `Windows.more`.
WORDS = 32


@dataclass(frozen=True)
class Windows:
    """The windows of one kind in a batch, and the random words for what is written into them."""

    text: np.ndarray  # int64 (N, L)
    other: np.ndarray  # int64 (N, L): the text of another window of the batch, if there is one
    words: np.ndarray  # uint64 (N, WORDS)
    seed: int
    step: int
    rank: int

    def more(self, n: int) -> np.ndarray:
        """Further random words, `n` for each window: uint64 (N, n)."""
        philox = np.random.Philox(key=self.seed, counter=[0, 2, self.rank, self.step])
        return philox.random_raw(len(self.text) * n).reshape(len(self.text), n)


class Task:
    """A kind of task: made once for a run's tokenizer, then asked for every batch."""

    least: ClassVar[int]  # the shortest data.seq_len that it fits

    def __init__(self, tokenizer: Tokenizer) -> None:
        """ValueError if `tokenizer` cannot write the task."""

    def write(self, windows: Windows) -> np.ndarray:
        """The windows with the task written into them: int64 (N, L), a new array."""
        raise NotImplementedError

    @staticmethod
    def problems(share: float, batch_size: int) -> list[str]:
        """A line for each rule of its own that a share above 0 breaks."""
        return []


KINDS: dict[str, type[Task]] = {}  # by the key of the share


def register(key: str) -> Callable[[type[Task]], type[Task]]:
    """The decorator that adds a kind of task, whose share is `data.<key>`.

    The order of the registrations is that in which kinds share out the windows of a batch: another
    one would change the data of every run with tasks.
    """

    def add(kind: type[Task]) -> type[Task]:
        assert key not in KINDS, key
        KINDS[key] = kind
        return kind

    return add


def share_problems(shares: Mapping[str, Any], seq_len: int, batch_size: int) -> list[str]:
    """A line for each rule that the shares, by key, break. Keys and sizes are valid ones."""
    if lines := problems(shares, dict.fromkeys(KINDS, number(0, 1, 0.2)), "data."):
        return lines
    given = {key: shares[key] for key in KINDS if shares.get(key)}
    for key, share in given.items():
        if seq_len < (least := KINDS[key].least):
            lines.append(
                f"data.seq_len={seq_len}: must be at least {least} with data.{key}={share}, whose "
                f"task is that long; try data.seq_len=256 or data.{key}=0"
            )
        lines += KINDS[key].problems(share, batch_size)
    if not lines and sum(given.values()) > 1:
        listed = ", ".join(f"data.{key}={share}" for key, share in given.items())
        lines.append(
            f"{listed}: are shares of the same windows, so their sum must be at most 1; "
            "try 0.2 for each"
        )
    return lines


class Mixture:
    """The tasks of a run and their shares of its training windows; the rest is plain text."""

    def __init__(self, shares: Mapping[str, float], tokenizer: Tokenizer) -> None:
        """`shares`: valid ones, by key. ValueError if `tokenizer` cannot write one of the tasks."""
        self.shares = {key: shares[key] for key in KINDS if shares.get(key)}
        self.tasks = [KINDS[key](tokenizer) for key in self.shares]

    def write(self, windows: np.ndarray, seed: int, step: int, rank: int) -> None:
        """Write the tasks into a batch of windows, int64 (batch_size, L), in place."""
        # Counters with a 0 in this place are those of the windows' text (`data.batches`), with a 2
        # those of `Windows.more`. Raw bits, as there.
        philox = np.random.Philox(key=seed, counter=[0, 1, rank, step])
        words = philox.random_raw(len(windows) * (1 + WORDS)).reshape(-1, 1 + WORDS)
        number = (words[:, 0] >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1), exactly
        ends = np.cumsum([*self.shares.values()])
        which = np.searchsorted(ends, number, side="right")  # of `tasks`; their number: plain text
        text = windows.copy()
        for i, task in enumerate(self.tasks):
            rows = np.flatnonzero(which == i)
            if len(rows):
                other = text[(rows + 1) % len(text)]
                chosen = Windows(text[rows], other, words[rows, 1:], seed, step, rank)
                windows[rows] = task.write(chosen)
