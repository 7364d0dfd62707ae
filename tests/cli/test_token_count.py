"""What is said of the speed of generation, and to whom."""

import io
import re
import sys

import pytest

from benchmarks import PartProgress
from cli.token_count import TokenCount


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_how_fast_it_was_is_said_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, said in (
        (Terminal(), r"5 tokens in \d+\.\d s, [\d,.]+ tokens/s\n"),
        (io.StringIO(), ""),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        count = TokenCount()
        assert list(count.tokens([7, 8, 9])) == [7, 8, 9]
        list(count.tokens([7, 8]))
        count.tell()
        assert re.fullmatch(said, stream.getvalue())


def test_progress_counts_what_is_computed_not_what_is_read() -> None:
    """The tokens of a batch's other texts are there already."""
    progress = PartProgress().part("generation")
    count = TokenCount(progress)
    for lengths in ([3, 2, 5], [1, 1]):
        count.batch()
        for length in lengths:
            list(count.tokens(range(length)))
    assert progress.done == 5 + 1 and count.total == 12
