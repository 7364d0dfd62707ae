"""Which tokens stand in which batch: pure functions of numbers, no state to save or restore.

Shapes: B batch_size, S seq_len.
"""

import numpy as np

from data.tasks import Mixture

IGNORED = -100  # torch's cross_entropy leaves such targets out


def batch(
    seed: int,
    step: int,
    rank: int = 0,
    *,
    tokens: np.ndarray,
    seq_len: int,
    batch_size: int,
    mixture: Mixture | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Micro-batch number `step` of `rank`: windows of `tokens` that start anywhere, uniformly.

    With a `mixture` some of them hold a task besides (`data.tasks`).
    Returns inputs and targets, int64 (B, S) each, targets one token ahead. Needs at least
    seq_len + 1 tokens.
    """
    # Philox turns (key, counter) into random bits by itself, so step and rank simply stand in the
    # counter (its lowest word counts the draws). Raw bits, because numpy promises to keep those
    # alike in all versions, and nothing of what it derives from them; the modulo's bias is 2^-40.
    bits = np.random.Philox(key=seed, counter=[0, 0, rank, step]).random_raw(batch_size)
    starts = (bits % np.uint64(len(tokens) - seq_len)).astype(np.int64)
    windows = tokens[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64)  # (B, S + 1)
    if mixture is not None:
        mixture.write(windows, seed, step, rank)
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


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
