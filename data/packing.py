"""Documents in training windows: where each begins, so that attention can stay inside of it.

A document is its separator and the tokens behind it: the separator begins it, and its first token
is predicted from that alone. A window begins one too, wherever it is cut out.

Shapes: B batch_size, S seq_len, N documents of the B windows, one after the other.
"""

import numpy as np

from data.batches import IGNORED


def packed(
    inputs: np.ndarray, targets: np.ndarray, separator: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows, int64 (B, S) each, and where documents begin in their row, and the last ends.

    Returns inputs and targets as they are, and cu_seqlens, int32 (size + 1,) with N <= size. The
    end is repeated as often as is missing, which means empty documents: `size` is 2 B, 4 B, 8 B, …,
    so that a compiled network sees few shapes.
    """
    begins = (inputs == separator) & (targets != IGNORED)  # what fills a batch up is no document
    begins[:, 0] = True
    starts = np.flatnonzero(begins)
    size = 2 * len(inputs)
    while size < len(starts):
        size *= 2
    cu_seqlens = np.full(size + 1, inputs.size, dtype=np.int32)
    cu_seqlens[: len(starts)] = starts
    return inputs, targets, cu_seqlens


def holds(tokens: np.ndarray, token: int, block: int = 1 << 24) -> bool:
    """Whether a token is among `tokens`, which are read in blocks, and no further than to it."""
    return any((tokens[at : at + block] == token).any() for at in range(0, len(tokens), block))
