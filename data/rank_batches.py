"""The batches of one rank by their number, as a loader's workers make them.

Shapes: B batch_size, S seq_len, N documents.
"""

from dataclasses import dataclass

import numpy as np

from data.batches import batch, count_validation_batches, validation_batch
from data.cache import check_uncut
from data.packing import packed
from data.tasks import Mixture
from data.warmup import Growth


@dataclass(frozen=True)
class TrainingBatches:
    """The micro-batches of a rank, by their number; called in the workers of the loader."""

    seed: int
    rank: int
    accumulate: int  # micro-batches of an optimizer step
    texts: list[np.ndarray]
    shares: list[float]
    growth: Growth
    mixture: Mixture | None
    separator: int | None  # None: windows are not told apart by documents

    def __call__(self, number: int) -> tuple[np.ndarray, ...]:
        """Inputs and targets, and cu_seqlens where documents are told apart."""
        for tokens in self.texts:
            check_uncut(tokens)
        seq_len, batch_size = self.growth.at(number // self.accumulate)
        windows = batch(
            self.seed,
            number,
            self.rank,
            tokens=self.texts,
            seq_len=seq_len,
            batch_size=batch_size,
            shares=self.shares,
            mixture=self.mixture,
        )
        return windows if self.separator is None else packed(*windows, self.separator)


@dataclass(frozen=True)
class ValidationBatches:
    """The batches of a rank in one pass over `tokens`, by their number."""

    rank: int
    world_size: int
    tokens: np.ndarray
    seq_len: int
    batch_size: int
    separator: int | None

    def __len__(self) -> int:
        shape = {"seq_len": self.seq_len, "batch_size": self.batch_size}
        return count_validation_batches(len(self.tokens), world_size=self.world_size, **shape)

    def __call__(self, index: int) -> tuple[np.ndarray, ...]:
        """Inputs and targets, and cu_seqlens where documents are told apart."""
        check_uncut(self.tokens)
        windows = validation_batch(
            index,
            self.rank,
            self.world_size,
            tokens=self.tokens,
            seq_len=self.seq_len,
            batch_size=self.batch_size,
        )
        return windows if self.separator is None else packed(*windows, self.separator)
