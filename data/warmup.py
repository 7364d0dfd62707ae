"""Windows that are short at first and grow: `data.warmup_seq_len`.

Early on a model learns what stands near, for which short windows do, and more of them make up the
same batch. They double until they are `data.seq_len` long, each length for as many steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.rules import shown


@dataclass(frozen=True)
class Growth:
    """The windows of every optimizer step: pure numbers, so that a resumed run goes on the same."""

    seq_len: int
    batch_size: int
    start: int | None = None  # the first length, seq_len / 2^k; None: seq_len, always
    steps: int = 0  # until they are seq_len long

    def at(self, step: int) -> tuple[int, int]:
        """Length and number of the windows of a micro-batch of `step`; their product stays."""
        if self.start is None or step >= self.steps:
            return self.seq_len, self.batch_size
        times = self.seq_len // self.start
        doublings = times.bit_length() - 1
        length = self.start << (step * doublings // self.steps)
        return length, self.batch_size * (self.seq_len // length)


def growth_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line where windows of `warmup_seq_len` do not double to `seq_len`; both are integers."""
    start, seq_len = settings["warmup_seq_len"], settings["seq_len"]
    if start is None:
        return []
    times, rest = divmod(seq_len, start)
    if not rest and times > 1 and not times & (times - 1):
        return []
    halves = [seq_len >> n for n in range(1, seq_len.bit_length()) if not seq_len % (1 << n)]
    works = shown(halves[min(2, len(halves) - 1)] if halves else None)
    return [
        f"data.warmup_seq_len={start}: must be data.seq_len={seq_len} halved once or more, so that "
        f"windows can double up to it; try data.warmup_seq_len={works}"
    ]
