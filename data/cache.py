"""The cache folder: files written whole or not at all, and token ids as memory maps.

A token file is the sha256 of its ids, then the ids. What is read of it at every start:

- up to 64 MiB, all of it: any damage is found, and the file is written anew;
- a larger one when it is new, and whenever its stamp (`data.stamps`) is another one than at the
  last full reading, which stands beside it in `<file>.stamp`. Whatever writes to the file, cuts it
  or replaces it is found so. What is not: a disk that gives back other bytes than were written,
  with nothing having touched the file. Without its .stamp the file is read in full again.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.files import replacing, write_json
from data.progress import OnProgress, silent
from data.stamps import stamp
from data.texts import BLOCK
from data.token_ids import token_dtype
from data.tokenizers import Tokenizer

DIGEST_BYTES = 32  # the sha256 at the head of a token file
ABANDONED = 3600  # seconds without a byte, after which an unfinished file has no writer any more
ALWAYS_READ = 1 << 26  # bytes of a token file that take too little time to be spared
EMPTY = hashlib.sha256().hexdigest()


def cache_folder() -> Path:
    """`$ROPEWALK_CACHE`, or `~/.cache/ropewalk` where that is unset or empty."""
    try:
        folder = Path(os.environ.get("ROPEWALK_CACHE") or "~/.cache/ropewalk").expanduser()
    except RuntimeError as error:  # no home directory to expand ~ to
        raise ValueError(f"no cache folder: {error}; set ROPEWALK_CACHE to a folder") from error
    return folder.absolute()


@contextmanager
def write_cached(path: Path) -> Iterator[BinaryIO]:
    """A file of the cache folder to write, which is there when the block has ended, or not at all.

    Raises:
        ValueError: it cannot be written; names ROPEWALK_CACHE, the way out.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise ValueError(
            f"ROPEWALK_CACHE={cache_folder()}: cannot write {path} ({error.strerror});\n"
            "set the environment variable ROPEWALK_CACHE to a folder that you can write to"
        ) from error


def note(path: Path, content: Any) -> None:
    """Write JSON into the cache folder if that is possible; without it a start takes longer."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)


def noted(path: Path) -> Any:
    """What `note` wrote; None where there is nothing, or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # the last: brackets without end
        return None


def map_tokens(
    blocks: Callable[[], Iterable[str]],
    sha256: str,
    tokenizer: Tokenizer,
    split: str,
    on_progress: OnProgress = silent,
) -> np.ndarray:
    """The ids of a text, (tokens,), as a read-only memory map of a file in the cache folder.

    The file's name holds the hash of text and tokenizer, so a changed text is another file. Where
    it is there and whole (see above), the text is not read at all.

    Args:
        blocks: gives the text, with a SEPARATOR between documents, when it has to be encoded.
        sha256: the text's own, in UTF-8.
        on_progress: is told of the reading of a large file.

    Raises:
        ValueError: the cache folder cannot be written, or the text is not that of the hash.
        OSError: the disk gives back something else than what was written.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    if sha256 == EMPTY:
        return np.empty(0, dtype)  # nothing to map
    path = cache_folder() / "tokens" / f"{split}-{_key(sha256, tokenizer)}.{dtype}"
    if (tokens := _whole(path, dtype, on_progress)) is not None:
        return tokens
    with write_cached(path) as file:
        _write(file, blocks(), sha256, tokenizer)
    tokens = _whole(path, dtype, on_progress)
    if tokens is None:
        raise OSError(errno.EIO, "what was written cannot be read back", str(path))
    return tokens


def check_uncut(tokens: np.ndarray) -> None:
    """OSError where the file behind a memory map of ids has been cut since it was mapped.

    Whoever reads behind its end is killed by the system (SIGBUS) without a word. To be asked before
    every reading: what is cut between the two is not found.
    """
    mapped = getattr(tokens, "_mmap", None)  # None: ids in memory
    if mapped is not None and mapped.size() < len(mapped):
        raise OSError(
            errno.EIO,
            f"has been cut from {len(mapped):,} to {mapped.size():,} bytes while it was in use; "
            "the same command writes it anew",
            str(getattr(tokens, "filename", "a token file")),
        )


def _key(sha256: str, tokenizer: Tokenizer) -> str:
    """32 hexadecimal digits that stand for this text under this tokenizer."""
    key = hashlib.sha256(json.dumps(tokenizer.state(), sort_keys=True).encode())
    key.update(bytes.fromhex(sha256))
    return key.hexdigest()[:32]


def _write(file: BinaryIO, blocks: Iterable[str], sha256: str, tokenizer: Tokenizer) -> None:
    """Write a token file part by part. ValueError if the text is not that of the hash."""
    text, digest = hashlib.sha256(), hashlib.sha256()
    file.write(bytes(DIGEST_BYTES))  # filled in at the end

    def read() -> Iterator[str]:
        for block in blocks:
            text.update(block.encode("utf-8"))
            yield block

    for ids in tokenizer.encode_blocks(read()):
        digest.update(ids.data)
        file.write(ids.data)
    if text.hexdigest() != sha256:
        raise ValueError(
            "data.path: the text has changed while it was read; wait until nobody writes to it"
        )
    file.seek(0)
    file.write(digest.digest())


def _whole(path: Path, dtype: np.dtype, on_progress: OnProgress) -> np.ndarray | None:
    """Map a token file whose ids match the hash at its head; None if there is none such."""
    try:
        with open(path, "rb") as file:
            if not _intact(file, path, on_progress):
                return None
            return np.memmap(file, dtype=dtype, mode="r", offset=DIGEST_BYTES)
    except (OSError, ValueError):  # missing; or cut short, or no whole number of ids
        return None


def _intact(file: BinaryIO, path: Path, on_progress: OnProgress) -> bool:
    """Whether an open token file is whole, read in full where its stamp does not tell."""
    now, beside = stamp(file.fileno()), path.with_name(f"{path.name}.stamp")
    if now.size > ALWAYS_READ and noted(beside) == [*now]:
        return True
    head, digest, done = file.read(DIGEST_BYTES), hashlib.sha256(), 0
    while chunk := file.read(BLOCK):
        digest.update(chunk)
        done += len(chunk)
        on_progress("Checking the tokens", done, now.size)
    if digest.digest() != head:
        return False
    if now.size > ALWAYS_READ:
        note(beside, now)
    return True


def _remove_abandoned(folder: Path) -> None:
    """Remove what writers that were killed have left; those of today's texts may be large."""
    for part in folder.glob("*.part"):
        with suppress(OSError):
            if part.stat().st_mtime < time.time() - ABANDONED:
                part.unlink()
