"""The cache folder: files written whole or not at all, and token ids as memory maps."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from common.files import write_bytes
from data.tokenizers import Tokenizer

DIGEST_BYTES = 32  # a token file is the sha256 of its ids, then the ids


def cache_folder() -> Path:
    """`$ROPEWALK_CACHE`, or `~/.cache/ropewalk` where that is unset or empty."""
    try:
        folder = Path(os.environ.get("ROPEWALK_CACHE") or "~/.cache/ropewalk").expanduser()
    except RuntimeError as error:  # no home directory to expand ~ to
        raise ValueError(f"no cache folder: {error}; set ROPEWALK_CACHE to a folder") from error
    return folder.absolute()


def write_cached(path: Path, *parts: bytes | memoryview) -> None:
    """Write `parts` to `path`, a file of the cache folder: whole or not at all.

    Raises:
        ValueError: the file cannot be written; names ROPEWALK_CACHE, the way out.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, *parts)
    except OSError as error:
        raise ValueError(
            f"ROPEWALK_CACHE={cache_folder()}: cannot write {path} ({error.strerror});\n"
            "set the environment variable ROPEWALK_CACHE to a folder that you can write to"
        ) from error


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned dtype that holds ids below `vocab_size`: uint8, uint16 or uint32."""
    return np.min_scalar_type(vocab_size - 1)


def map_tokens(text: str, tokenizer: Tokenizer, split: str) -> np.ndarray:
    """The ids of `text`, (tokens,), as a read-only memory map of a file in the cache folder.

    The file's name holds the hash of text and tokenizer, so a changed text is another file; the
    ids in it carry their own hash, so a damaged file is written anew.

    Raises:
        ValueError: the cache folder cannot be written.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    path = cache_folder() / "tokens" / f"{split}-{_key(text, tokenizer)}.{dtype}"
    if (tokens := _intact(path, dtype)) is not None:
        return tokens
    ids = np.ascontiguousarray(tokenizer.encode(text), dtype=dtype)
    if not len(ids):
        return ids  # nothing to map
    write_cached(path, hashlib.sha256(ids.data).digest(), ids.data)
    return np.memmap(path, dtype=dtype, mode="r", offset=DIGEST_BYTES)


def _key(text: str, tokenizer: Tokenizer) -> str:
    """32 hexadecimal digits that stand for this text under this tokenizer."""
    key = hashlib.sha256(json.dumps(tokenizer.state(), sort_keys=True).encode())
    key.update(hashlib.sha256(text.encode()).digest())
    return key.hexdigest()[:32]


def _intact(path: Path, dtype: np.dtype) -> np.ndarray | None:
    """Map a token file whose ids match the hash at its head; None if there is none such."""
    try:
        tokens = np.memmap(path, dtype=dtype, mode="r", offset=DIGEST_BYTES)
        with open(path, "rb") as file:
            digest = file.read(DIGEST_BYTES)
    except (OSError, ValueError):  # missing; or cut short, or no whole number of ids
        return None
    return tokens if hashlib.sha256(tokens.data).digest() == digest else None
