"""Which tokens stand in which batch: pure functions of numbers, no state to save or restore.

Shapes: B batch_size, S seq_len.
"""

from collections.abc import Sequence

import numpy as np

from data.tasks import Mixture

IGNORED = -100  # torch's cross_entropy leaves such targets out


def batch(
    seed: int,
    step: int,
    rank: int = 0,
    *,
    tokens: np.ndarray | Sequence[np.ndarray],
    seq_len: int,
    batch_size: int,
    shares: Sequence[float] = (1.0,),
    mixture: Mixture | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Micro-batch number `step` of `rank`: windows of `tokens` that start anywhere, uniformly.

    Of several texts each gives windows by its share, of sum 1. With a `mixture` some windows hold a
    task besides (`data.tasks`).
    Returns inputs and targets, int64 (B, S) each, targets one token ahead. Every text needs at
    least seq_len + 1 tokens.
    """
    texts = [tokens] if isinstance(tokens, np.ndarray) else tokens
    # Philox turns (key, counter) into random bits by itself, so step and rank simply stand in the
    # counter (its lowest word counts the draws). Raw bits, because numpy promises to keep those
    # alike in all versions, and nothing of what it derives from them; the modulo's bias is 2^-40.
    bits = np.random.Philox(key=seed, counter=[0, 0, rank, step]).random_raw(batch_size)
    source = chosen_sources(seed, step, rank, batch_size, shares)
    windows = np.empty((batch_size, seq_len + 1), dtype=np.int64)
    for i, text in enumerate(texts):
        starts = (bits[source == i] % np.uint64(len(text) - seq_len)).astype(np.int64)
        windows[source == i] = text[starts[:, None] + np.arange(seq_len + 1)]
    if mixture is not None:
        mixture.write(windows, seed, step, rank)
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def chosen_sources(
    seed: int, step: int, rank: int, batch_size: int, shares: Sequence[float]
) -> np.ndarray:
    """Which of the texts, by their shares, each window of a micro-batch is from: int64 (B,)."""
    if len(shares) == 1:
        return np.zeros(batch_size, dtype=np.int64)
    # Counters with a 0 in this place are those of the starts, with 1 and 2 those of the tasks.
    words = np.random.Philox(key=seed, counter=[0, 3, rank, step]).random_raw(batch_size)
    number = (words >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1), exactly
    # Without the last end, 1 but for rounding; a share of 0 has no room between two ends.
    return np.searchsorted(np.cumsum(shares)[:-1], number, side="right")


def validation_batch(
    index: int,
    rank: int = 0,
    world_size: int = 1,
    *,
    tokens: np.ndarray,
    seq_len: int,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Batch `index` of one pass over `tokens` in windows that do not overlap.

    Every token but the first is a target once, in the batches of all ranks together. Windows go
    to the ranks in turn. What is missing to a full (B, S) has input 0 and target -100.

    Returns inputs and targets, int64 (B, S) each.
    """
    window = (index * batch_size + np.arange(batch_size)) * world_size + rank  # (B,)
    at = window[:, None] * seq_len + np.arange(seq_len)  # (B, S)
    there = at + 1 < len(tokens)
    inputs = np.where(there, tokens[np.where(there, at, 0)], 0)
    targets = np.where(there, tokens[np.where(there, at + 1, 0)].astype(np.int64), IGNORED)
    return inputs.astype(np.int64), targets


def count_validation_batches(
    n_tokens: int, *, seq_len: int, batch_size: int, world_size: int = 1
) -> int:
    """Batches in one pass over `n_tokens`, the same number on every rank."""
    windows = -(-(n_tokens - 1) // seq_len)
    return -(-windows // (batch_size * world_size))
