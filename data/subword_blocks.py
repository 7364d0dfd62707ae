"""Long texts through a `tokenizers` model piece by piece, to the ids of the whole.

A document is cut into windows that overlap. They are encoded by themselves, many at a time on the
machine's threads, and joined where two neighbours agree: at the tokens of their overlap that both
of them found, the same ids at the same characters, eight or more in a row. In the middle of such a
row they are cut. What a window's edges have done to the tokens next to them is left out so.

Why that gives the ids of the whole: tokens far from an edge depend on the text around them alone.
For BPE it is a theorem, since a row of tokens is the encoding of its text if each two neighbours
are the encoding of theirs, and all neighbours here are of one window or of both. Where nothing is
agreed on, as in a line of a megabyte of spaces that a model drops, windows grow until it is.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Encoding

WINDOW = 1 << 16  # characters
OVERLAP = 1 << 10  # of them, that the window before has too
AGREED = 4  # tokens on each side of a cut that both windows must have found
BATCH = 1 << 20  # characters, about, that are encoded at a time
MOST_WINDOWS = 4096  # that are, however short the documents

Encode = Callable[[list[str]], "list[Encoding]"]


class Window(NamedTuple):
    """A stretch of a document."""

    text: str
    start: int  # characters of the document before it
    last: bool  # whether it is the document's last one


class Place(NamedTuple):
    """A token and the characters of the document that it stands for."""

    id: int
    start: int
    end: int


def encode_documents(encode: Encode, documents: Iterable[Iterable[str]]) -> Iterator[list[int]]:
    """The ids of documents that come in blocks: parts of each, and an empty list after its last.

    `encode`: what the library makes of several texts.
    """
    joint = Joint(encode)
    for batch in _batches(chain.from_iterable(map(windows, documents))):
        for window, encoding in zip(batch, encode([w.text for w in batch]), strict=True):
            if ids := joint.add(window, encoding):
                yield ids
            if window.last:
                yield []


def windows(blocks: Iterable[str]) -> Iterator[Window]:
    """The windows of a document, at least one."""
    held, start = "", 0
    for block in blocks:
        held += block
        while len(held) > WINDOW + OVERLAP:  # more than an overlap is left for the next one
            yield Window(held[:WINDOW], start, last=False)
            held, start = held[WINDOW - OVERLAP :], start + WINDOW - OVERLAP
    yield Window(held, start, last=True)


def _batches(found: Iterable[Window]) -> Iterator[list[Window]]:
    batch, size = list[Window](), 0
    for window in found:
        batch.append(window)
        size += len(window.text)
        if size >= BATCH or len(batch) == MOST_WINDOWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Joint:
    """The windows of documents, joined one after the other."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.held: Window | None = None  # whose end is not known yet; None between documents
        self.encoding: Encoding  # of it
        self.cut = 0  # its tokens that the window before it has given already
        self.encoded = 0  # characters of it that the encoding is of

    def add(self, window: Window, encoding: "Encoding") -> list[int]:
        """The ids that are known with this window, the next one."""
        ids: list[int] = []
        if self.held is None:
            self._hold(window, encoding, 0)
        elif cut := self._cut(self.held, window, encoding):
            ids = self.encoding.ids[self.cut : cut[0]]
            self._hold(window, encoding, cut[1])
        else:
            self._grow(self.held, window)
        if window.last:
            ids += self.encoding.ids[self.cut :]
            self.held = None
        return ids

    def _hold(self, window: Window, encoding: "Encoding", cut: int) -> None:
        self.held, self.encoding, self.cut = window, encoding, cut
        self.encoded = len(window.text)

    def _cut(self, held: Window, window: Window, encoding: "Encoding") -> tuple[int, int] | None:
        """Where two neighbours are cut: the token of each that is the first of the second's."""
        if self.encoded < len(held.text):
            return None
        tail, head = _tail(held, self.encoding), _head(window, encoding)
        if (found := agreed(tail, head)) is None:
            return None
        return len(self.encoding) - len(tail) + found[0], found[1]

    def _grow(self, held: Window, window: Window) -> None:
        """Take the next window into the held one, to be encoded again when it is much longer.

        Its cut stays, which is far from the edge that has moved.
        """
        self.held = window._replace(text=held.text + window.text[OVERLAP:], start=held.start)
        if window.last or len(self.held.text) > 1.5 * self.encoded:
            (self.encoding,) = self.encode([self.held.text])
            self.encoded = len(self.held.text)


def agreed(tail: list[Place], head: list[Place]) -> tuple[int, int] | None:
    """The place in each list before which they can be joined, nearest to the middle; or None."""
    middle = len(tail) // 2
    for i in sorted(range(AGREED, len(tail) - AGREED + 1), key=lambda i: abs(i - middle)):
        row = tail[i - AGREED : i + AGREED]
        for j in (n + AGREED for n, place in enumerate(head) if place == row[0]):
            if head[j - AGREED : j + AGREED] == row:
                return i, j
    return None


def _tail(window: Window, encoding: "Encoding") -> list[Place]:
    """The tokens that lie in the overlap with the next window, to the end."""
    number, least = len(encoding), len(window.text) - OVERLAP
    while number and (span := encoding.token_to_chars(number - 1)) and span[0] >= least:
        number -= 1
    return _places(window, encoding, range(number, len(encoding)))


def _head(window: Window, encoding: "Encoding") -> list[Place]:
    """The tokens that lie in the overlap with the window before, from the beginning."""
    number = 0
    while (span := encoding.token_to_chars(number)) and span[1] <= OVERLAP:
        number += 1
    return _places(window, encoding, range(number))


def _places(window: Window, encoding: "Encoding", numbers: range) -> list[Place]:
    ids = encoding.ids
    spans = (encoding.token_to_chars(n) or (0, 0) for n in numbers)
    starts = ((window.start + start, window.start + end) for start, end in spans)
    return [Place(ids[n], *span) for n, span in zip(numbers, starts, strict=True)]
