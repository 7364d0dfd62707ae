"""The passkey task: a key is stated somewhere in a text, and asked for later.

    statement  " [the key of qmzha is 40713] "
    question   " [the key of qmzha is "        and its answer "40713] "

so a question with its answer repeats the statement word for word. A tenth of all keys is for
evaluation, and no training window ever holds one of those.

Shapes: N windows, n statements; a statement has STATEMENT tokens, one per character.
"""

import string

import numpy as np

from data.tokenizers import Tokenizer

TEMPLATE = " [the key of aaaaa is 00000] "
STATEMENT = len(TEMPLATE)
NAME = slice(13, 18)
DIGITS = slice(22, 27)
QUESTION = DIGITS.start  # tokens of a question, which ends where its answer begins

NAMES, KEYS = 26**5, 10**5
_POWERS = np.arange(4, -1, -1)


def is_for_evaluation(keys: np.ndarray) -> np.ndarray:
    """Which keys (integers below KEYS) training never sees: booleans of the same shape.

    A hash, so that no digit tells: the residue of a prime, for a tenth of the keys.
    """
    return (keys * 7919 + 13) % 100_003 % 10 == 3


EVALUATION_KEYS = np.flatnonzero(is_for_evaluation(np.arange(KEYS)))
TRAINING_KEYS = np.flatnonzero(~is_for_evaluation(np.arange(KEYS)))


def draw_names(bits: np.ndarray) -> np.ndarray:
    """Names as numbers, int64 (N, n), from random words uint64 (N, n); distinct in each row."""
    n = bits.shape[1]
    return (bits % np.uint64(NAMES // n)).astype(np.int64) * n + np.arange(n)  # no two alike mod n


def draw_keys(bits: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Any of `keys` for each of the random words uint64 `bits`, uniformly: int64, same shape."""
    return keys[(bits % np.uint64(len(keys))).astype(np.int64)]


def statements(names: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The texts of statements in ASCII, uint8 (..., STATEMENT), for integers of shape (...)."""
    text = np.empty((*names.shape, STATEMENT), dtype=np.uint8)
    text[...] = np.frombuffer(TEMPLATE.encode(), dtype=np.uint8)
    text[..., NAME] += (names[..., None] // 26**_POWERS % 26).astype(np.uint8)
    text[..., DIGITS] += (keys[..., None] // 10**_POWERS % 10).astype(np.uint8)
    return text


def character_ids(tokenizer: Tokenizer) -> np.ndarray:
    """The token of every character that the task is written in: int64 (128,), by ASCII code.

    Raises ValueError where the tokenizer has no token for one of them, and that alone: one with a
    space before the character is another.
    """
    ids = np.full(128, -1, dtype=np.int64)
    missing = []
    for character in sorted({*TEMPLATE, *string.ascii_lowercase, *string.digits}):
        try:
            (number,) = tokenizer.encode(character)
        except ValueError:  # not in the vocabulary, or more than one token
            missing.append(character)
            continue
        ids[ord(character)] = number
        if tokenizer.token_bytes[number] != 1:
            missing.append(character)
    if missing:
        raise ValueError(
            f"data.tokenizer={tokenizer.name}: has no token for {''.join(missing)!r}, which the "
            "passkey task is written in; data.tokenizer=byte has"
        )
    return ids
