"""The user's own texts: a file, a folder or a glob, read as UTF-8 in blocks or refused by name."""

import codecs
import glob
import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from data.progress import OnProgress, silent
from data.recordfiles import RECORDS, RecordFile
from data.texts import BLOCK, SEPARATOR, Text
from data.userfiles import (
    COMPRESSED,
    OnBytes,
    UserFile,
    is_compressed,
    kind,
    skip,
    told_of_bytes,
)

MOST_FILES = 100_000  # each is looked at, one by one, whenever a run begins
# What is read of a folder, in capitals too; all but Parquet also compressed
SUFFIXES = (".txt", ".md", ".py", *RECORDS)


class TextFile(UserFile):
    """A file of UTF-8 text, one document.

    Reading it, whenever that is, raises ValueError where it cannot be read, is not UTF-8 text (with
    the offset of the first wrong byte) or has changed since the object was made.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is read yet. OSError if there is no such file."""
        super().__init__(path)
        # Where blocks begin: the number of their first character, and its offset in bytes.
        self._marks = [(0, 0)]

    def text(self, on_bytes: OnBytes) -> Text:
        """Read the file once to count its characters; `on_bytes` is told of every block's bytes."""
        self._marks, characters, before = [(0, 0)], 0, 0
        for block, offset, read in self._blocks(0):
            characters += len(block)
            self._marks.append((characters, offset))
            on_bytes(read - before)
            before = read
        return Text(self._from, 0, characters)

    def _from(self, start: int) -> Iterator[str]:
        """Blocks of the text from character `start` on."""
        character, offset = self._marks[bisect_right(self._marks, (start, math.inf)) - 1]
        skipped = start - character
        for block, _, _ in self._blocks(offset):
            yield block[skipped:]
            skipped = max(0, skipped - len(block))

    def _blocks(self, offset: int) -> Iterator[tuple[str, int, int]]:
        """Blocks from byte `offset` on, where a character begins, each with its end's offset.

        The last number is how much of the file has been read; it is another where the file is
        compressed.
        """
        with self.opened() as (raw, file):
            skip(file, offset)
            for block, end in self._decoded(file, offset):
                yield block, end, raw.tell()

    def _decoded(self, file: BinaryIO, done: int) -> Iterator[tuple[str, int]]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        most = math.inf if is_compressed(self.path) else self.stamp.size
        chunk = b"."
        while chunk and done <= most:  # a file that grows has no end to wait for
            chunk = file.read(BLOCK)
            begin = done - len(decoder.getstate()[0])  # a character may have begun before
            try:
                block = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise self._not_text(begin + error.start) from error
            # UTF-16 passes for UTF-8 full of NULs; and NUL is what separates documents here.
            if (wrong := block.find(SEPARATOR)) >= 0:
                raise self._not_text(begin + len(block[:wrong].encode("utf-8")))
            done += len(chunk)
            yield block, done - len(decoder.getstate()[0])

    def _not_text(self, offset: int) -> ValueError:
        """What to say of a file whose byte at `offset` is the first that is no text."""
        line, left = 1, offset
        with self.opened() as (_, file):
            while left and (chunk := file.read(min(BLOCK, left))):
                line += chunk.count(b"\n")
                left -= len(chunk)
            wrong = file.read(1)
        return ValueError(
            f"data.path={self.path}: not UTF-8 text (byte 0x{wrong.hex()} at offset {offset}, line "
            f"{line});\nconvert it, e.g. iconv -f LATIN1 -t UTF-8 (or -f UTF-16) {self.path} "
            "> utf8.txt"
        )


def text_files(path: str | os.PathLike[str]) -> dict[str, UserFile]:
    """The files that `data.path` names, by POSIX path (below the folder, for a folder), sorted.

    By its suffix each is a `TextFile` or a `RecordFile`. A folder gives what has one of `SUFFIXES`
    at any depth, hidden files left out; a glob gives every file that it matches (`**` any depth).
    Of several files the empty ones are left out; so are the system's own (/proc), which have no
    size and may have no end.

    Raises:
        ValueError: nothing there, or nothing in it.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ValueError(f"data.path={path}: must be a file, a folder or a glob")
    try:
        files = {name: _file(found) for name, found in sorted(_files(Path(path)).items())}
    except OSError as error:
        raise ValueError(
            f"data.path={path}: cannot read {error.filename} ({error.strerror}); "
            "it must be a file that you may read"
        ) from error
    files = {name: file for name, file in files.items() if file.stamp.size}
    if not files:
        raise ValueError(f"data.path={path}: is empty; give a text, or use data=stdlib")
    return files


def _file(path: Path) -> UserFile:
    return RecordFile(path) if kind(path) in RECORDS else TextFile(path)


def read_texts(files: Mapping[str, UserFile], on_progress: OnProgress = silent) -> dict[str, Text]:
    """The texts of those of `files` that are a text each.

    Raises:
        ValueError: a file that is not UTF-8 text.
    """
    texts = {name: file for name, file in files.items() if isinstance(file, TextFile)}
    on_bytes = told_of_bytes(texts.values(), on_progress)
    return {name: file.text(on_bytes) for name, file in texts.items()}


def _files(path: Path) -> dict[str, Path]:
    """The files that `path` names, by the name to sort them by; ValueError if there are none."""
    if path.is_dir():
        return _files_below(path)
    if path.is_file():
        return {path.name: path}
    if os.path.lexists(path):
        raise ValueError(f"data.path={path}: must be a regular file, a folder or a glob")
    # Absolute, as a run keeps the path: by these names documents are split, then and when resumed.
    found = [Path(match) for match in glob.glob(str(path.absolute()), recursive=True)]
    if files := {match.as_posix(): match for match in found if match.is_file()}:
        return files
    raise ValueError(
        f"data.path={path}: no such file, seen from {Path.cwd()}; "
        "give a file, a folder or a glob that exists, or use data=stdlib"
    )


def _files_below(folder: Path) -> dict[str, Path]:
    """The texts of a folder that is one of texts, and not a whole file system."""
    if folder.resolve() == Path(folder.resolve().anchor):
        raise ValueError(f"data.path={folder}: is all there is; give a folder of texts in it")
    wanted = (file for file in folder.rglob("*") if _wanted(file, folder))
    files = {file.relative_to(folder).as_posix(): file for file in islice(wanted, MOST_FILES + 1)}
    if not files:
        raise ValueError(
            f"data.path={folder}: no {', '.join(SUFFIXES)} file below this folder, nor one with "
            f"{', '.join(COMPRESSED)} after that"
        )
    if len(files) > MOST_FILES:
        raise ValueError(
            f"data.path={folder}: must hold at most {MOST_FILES:,} files of text; "
            "give a folder in it, or join them into fewer"
        )
    return files


def _wanted(file: Path, folder: Path) -> bool:
    """Whether a folder's reader takes this entry: a text by its suffix, not hidden."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return kind(file) in SUFFIXES and not hidden and file.is_file()
