"""A file of the user's own, compressed or not, which has to hold still while it is read."""

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from data.progress import OnProgress
from data.stamps import stamp
from data.texts import BLOCK

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
OnBytes = Callable[[int], None]  # called with the number of bytes that have been read by now anew
DAMAGED = (EOFError, zlib.error, lzma.LZMAError)


class UserFile:
    """A file at `data.path`. Reading it raises ValueError where it has changed, or cannot be read.

    What is compressed is decompressed anew with every reading: nothing of it lies on the disk.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is read yet. OSError if there is no such file."""
        self.path = path
        self.stamp = stamp(path)

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """The file as it lies there, to ask how far it has been read, and what is in it."""
        try:
            with open(self.path, "rb") as raw:
                self._check_same(raw)
                with _decompressed(raw, self.path) as file:
                    yield raw, file
                    self._check_same(raw)
        except DAMAGED as error:
            raise self._damaged(error) from error
        except OSError as error:
            if error.errno is None:  # a library's own, of what it has read
                raise self._damaged(error) from error
            raise ValueError(
                f"data.path={self.path}: cannot be read ({error.strerror}); "
                "it must be a file that you may read"
            ) from error

    def _damaged(self, error: Exception) -> ValueError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return ValueError(
            f"data.path={self.path}: is damaged, or cut short ({reason}); "
            "take a whole copy of the file"
        )

    def _check_same(self, file: BinaryIO) -> None:
        if stamp(file.fileno()) != self.stamp:
            raise ValueError(
                f"data.path={self.path}: has changed while it was read; "
                "wait until nobody writes to it, or give a copy"
            )


def told_of_bytes(files: Collection[UserFile], on_progress: OnProgress) -> OnBytes:
    """An `OnBytes` that tells `on_progress` how much of all `files` has been read."""
    done, total = 0, sum(file.stamp.size for file in files)

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        on_progress("Reading the text", done, total)

    return on_bytes


def untold(count: int) -> None:
    """An `OnBytes` that tells nobody."""


def is_compressed(path: Path) -> bool:
    """Whether a file's name says that it is compressed."""
    return path.suffix.lower() in COMPRESSED


def kind(path: Path) -> str:
    """The suffix of what a file holds, in small letters: `.txt` for notes.txt and notes.TXT.gz."""
    return Path(path.stem).suffix.lower() if is_compressed(path) else path.suffix.lower()


def skip(file: BinaryIO, count: int) -> None:
    """Go forward by `count` bytes: at once where the file can, else by reading them."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO):
        file.seek(count, os.SEEK_CUR)
        return
    while count and (chunk := file.read(min(BLOCK, count))):
        count -= len(chunk)


def pyarrow_for(path: Path) -> Any:
    """The module pyarrow; ValueError where it is missing, which a file at `path` needs."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"data.path={path}: {path.suffix} files need pyarrow; pip install '.[hf]'"
        ) from error
    return pyarrow


@contextmanager
def _decompressed(raw: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """What is in an open file, by the suffix of its name."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with gzip.GzipFile(fileobj=raw, mode="rb") as file:
            yield file  # type: ignore[misc]
    elif suffix == ".bz2":
        with bz2.BZ2File(raw, "rb") as file:
            yield file  # type: ignore[misc]
    elif suffix == ".xz":
        with lzma.LZMAFile(raw, "rb") as file:
            yield file  # type: ignore[misc]
    elif suffix == ".zst":
        with pyarrow_for(path).input_stream(raw, compression="zstd") as file:
            yield io.BufferedReader(file)
    else:
        yield raw
