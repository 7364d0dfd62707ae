"""Texts that are read in blocks, so that a text of any size takes little memory."""

from collections.abc import Callable, Iterable, Iterator

from data.progress import OnProgress, silent

BLOCK = 1 << 20  # bytes of a file, or characters of a text, that are in memory at a time
SEPARATOR = "\0"  # between the documents of a split; no document has one

Read = Callable[[int], Iterator[str]]  # the blocks of a document from a character on


class Text:
    """A document, or a stretch of one: an iterable of blocks, which are read anew every time.

    `len(text)` is its number of characters, `text[a:b]` a stretch of it and `str(text)` the whole.
    """

    def __init__(self, read: Read, start: int, end: int) -> None:
        """Characters `start` to `end` of the document whose blocks `read` gives."""
        self._read, self._start, self._end = read, start, end

    @classmethod
    def of(cls, content: str) -> "Text":
        """A document that is in memory."""
        size = len(content)
        return cls(
            lambda start: (content[at : at + BLOCK] for at in range(start, size, BLOCK)), 0, size
        )

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, stretch: slice) -> "Text":
        start, end, step = stretch.indices(len(self))
        assert step == 1, "a stretch has no gaps"
        return Text(self._read, self._start + start, self._start + max(start, end))

    def __iter__(self) -> Iterator[str]:
        left = len(self)
        blocks = self._read(self._start) if left else iter(())
        for block in blocks:
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return

    def __str__(self) -> str:
        return "".join(self)


def rejoined(stretches: Iterable[Text]) -> list[Text]:
    """Documents as they were before they were cut: stretches of one that adjoin are one again."""
    by_end: dict[tuple[Read, int], Text] = {}
    for text in sorted(stretches, key=lambda text: text._start):
        before = by_end.pop((text._read, text._start), text)
        by_end[text._read, text._end] = Text(text._read, before._start, text._end)
    return list(by_end.values())


def joined(
    texts: Iterable[Text], what: str = "", on_progress: OnProgress = silent
) -> Iterator[str]:
    """The blocks of all `texts`, one after the other, with a separator between each two.

    `on_progress` is told how many of their characters have been worked on, as `what`.
    """
    texts = list(texts)
    done, total = 0, sum(map(len, texts))
    for number, text in enumerate(texts):
        if number:
            yield SEPARATOR
        for block in text:
            yield block
            done += len(block)
            on_progress(what, done, total)
