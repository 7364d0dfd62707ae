"""Token ids as arrays: their dtype, and that each is one."""

import numpy as np
from numpy.typing import ArrayLike


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned dtype that holds ids below `vocab_size`: uint8, uint16 or uint32."""
    return np.min_scalar_type(vocab_size - 1)


def checked(ids: ArrayLike, vocab_size: int) -> np.ndarray:
    """`ids` as a 1-D integer array; ValueError for one below 0 or not below `vocab_size`."""
    ids = np.asarray(ids, dtype=np.int64).reshape(-1)
    if wrong := ids[(ids < 0) | (ids >= vocab_size)][:1].tolist():
        raise ValueError(f"token id {wrong[0]}: must be 0 to {vocab_size - 1}")
    return ids
