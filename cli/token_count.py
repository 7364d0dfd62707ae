"""How many tokens were generated and how fast, and how far it is where nothing streams."""

import sys
import time
from collections.abc import Iterable, Iterator

from benchmarks import PartProgress
from common.terminal import say


class TokenCount:
    """Counts the tokens that pass through it, from the moment that it is made."""

    def __init__(self, progress: PartProgress | None = None) -> None:
        """`progress` gets a step for each token of the longest text of a batch."""
        self.progress, self.start = progress, time.perf_counter()
        self.total = self.longest = 0
        self.how = ""

    def batch(self, how: str = "") -> None:
        """Another batch begins; `how` it is decoded, where there is something to say."""
        self.longest, self.how = 0, how

    def tokens(self, stream: Iterable[int]) -> Iterator[int]:
        """The tokens of one text of the batch, counted."""
        for number, token in enumerate(stream, 1):
            self.total += 1
            if number > self.longest:
                self.longest = number
                if self.progress is not None:
                    self.progress.step("tokens")
            yield token

    def tell(self) -> None:
        """A line on stderr, where that is a terminal."""
        seconds = time.perf_counter() - self.start
        if sys.stderr.isatty():
            rate = f"{self.total / seconds:,.1f} tokens/s"
            how = f" ({self.how})" if self.how else ""
            say(f"{self.total:,} tokens in {seconds:.1f} s, {rate}{how}", sys.stderr)
