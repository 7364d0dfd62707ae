"""Many documents in one text or one array: how they are split, and how they are found again.

In a text a separator stands between each two of them. They are read one after the other, as often
as they are needed, so that millions of them take no more memory than ten.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, groupby, islice
from typing import overload

import numpy as np

from data.texts import BLOCK, SEPARATOR, Text

Read = Callable[[], Iterator[str]]  # documents, none of them empty, from the first to the last
EVERY = 10  # of so many documents the last one is for validation


def share_out(read: Read) -> dict[str, list[Text]]:
    """Every tenth document to validation, the others to train: one text each.

    So validation is a fair sample also where the documents are sorted, by source or by date, and
    the same on every machine. Where there are fewer than ten documents, or a few hold so much of
    the text that validation would have less than half of its tenth or more than two, validation is
    the last tenth of the characters.
    """
    counts, sizes = [0, 0], [0, 0]
    for number, document in enumerate(read()):
        side = _is_for_validation(number)
        counts[side] += 1
        sizes[side] += len(document)
    share = sizes[True] / max(1, sum(sizes))
    if not 0.5 / EVERY <= share <= 2 / EVERY:
        return _split_by_position(_text(read, sum(counts), sum(sizes)))
    return {
        "train": [_text(lambda: _chosen(read, False), counts[False], sizes[False])],
        "validation": [_text(lambda: _chosen(read, True), counts[True], sizes[True])],
    }


def whole(read: Read) -> list[Text]:
    """All documents as one text; none where there is no document."""
    sizes = [0, 0]
    for document in read():
        sizes[0] += 1
        sizes[1] += len(document)
    return [_text(read, *sizes)] if sizes[0] else []


def by_document(blocks: Iterable[str]) -> Iterator[Iterator[str]]:
    """The blocks of each document of a text in turn; each to be read before the next one."""
    for _, pieces in groupby(_pieces(blocks), key=lambda piece: piece[0]):
        yield (piece for _, piece in pieces)


class TokenDocuments(Sequence[np.ndarray]):
    """Documents as stretches of one array of token ids: 16 bytes each, whatever their number."""

    def __init__(self, tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        """Document i is `tokens[starts[i]:ends[i]]`."""
        self._tokens, self._starts, self._ends = tokens, starts, ends

    @classmethod
    def of(cls, documents: Iterable[np.ndarray]) -> "TokenDocuments":
        """Documents that come one by one and are kept in one array, of the first one's dtype."""
        tokens, ends, dtype = bytearray(), array("q", [0]), None
        for document in documents:
            dtype = document.dtype if dtype is None else dtype
            tokens += document.data
            ends.append(len(tokens) // dtype.itemsize)
        bounds = np.frombuffer(ends, dtype=np.int64)
        return cls(
            np.frombuffer(tokens, dtype=np.uint8 if dtype is None else dtype),
            bounds[:-1],
            bounds[1:],
        )

    @classmethod
    def between(cls, separator: int, tokens: np.ndarray) -> "TokenDocuments":
        """Those between the separators in `tokens`, which is read in blocks."""
        blocks = range(0, len(tokens), BLOCK)
        found = [np.flatnonzero(tokens[at : at + BLOCK] == separator) + at for at in blocks]
        ends = np.concatenate([*found, [len(tokens)]]).astype(np.int64)
        return cls(tokens, np.concatenate([[0], ends[:-1] + 1]), ends)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "TokenDocuments": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | TokenDocuments":
        starts, ends = self._starts[index], self._ends[index]
        if isinstance(index, slice):
            return TokenDocuments(self._tokens, starts, ends)
        return self._tokens[starts:ends]


class Chained(Sequence[np.ndarray]):
    """The documents of several sequences, one sequence after the other."""

    def __init__(self, parts: Sequence[Sequence[np.ndarray]]) -> None:
        """Nothing of the parts is copied."""
        self._parts, self._ends = parts, [*accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        number = range(len(self))[index]
        if isinstance(number, range):
            return [self[i] for i in number]
        part = bisect_right(self._ends, number)
        return self._parts[part][number - self._ends[part]]


def _is_for_validation(number: int) -> bool:
    return number % EVERY == EVERY - 1


def _chosen(read: Read, validation: bool) -> Iterator[str]:
    if validation:
        return islice(read(), EVERY - 1, None, EVERY)
    return (text for number, text in enumerate(read()) if not _is_for_validation(number))


def _text(read: Read, count: int, size: int) -> Text:
    """`count` documents of `size` characters in all, with separators between them."""

    def blocks(start: int) -> Iterator[str]:
        for block in _joined(read()):
            yield block[start:]
            start = max(0, start - len(block))

    return Text(blocks, 0, size + max(0, count - 1))


def _joined(documents: Iterator[str]) -> Iterator[str]:
    """Blocks of documents with separators between them, however short or long these are."""
    parts, size = [], 0
    for number, document in enumerate(documents):
        parts += [SEPARATOR, document] if number else [document]
        size += len(document) + 1
        if size >= BLOCK:
            yield from _cut("".join(parts))
            parts, size = [], 0
    yield from _cut("".join(parts))


def _cut(text: str) -> Iterator[str]:
    return (text[at : at + BLOCK] for at in range(0, len(text), BLOCK))


def _split_by_position(text: Text) -> dict[str, list[Text]]:
    """The last tenth to validation, less the separator if the cut is beside one."""
    cut = len(text) * (EVERY - 1) // EVERY
    edge = str(text[cut - 1 : cut + 1])
    head, tail = text[: cut - (edge[:1] == SEPARATOR)], text[cut + (edge[1:] == SEPARATOR) :]
    return {"train": [head] if len(head) else [], "validation": [tail] if len(tail) else []}


def _pieces(blocks: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The blocks cut at separators, each with the number of its document."""
    number = 0
    for block in blocks:
        for i, piece in enumerate(block.split(SEPARATOR)):
            number += i > 0
            yield number, piece
