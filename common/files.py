"""Files that appear whole or not at all, and that survive a power cut."""

import glob
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write, which takes the place of `path` when the block ends without error.

    It stands beside `path` under a name of its own, so that several processes may write at once;
    it is flushed to the disk, renamed over `path`, and its directory is flushed. After an error
    `path` is as it was. It can be read, too, while it is written. No directory is made, so that
    one that has vanished is seen. Raises OSError, which names `path`, where it cannot be written.
    """
    _remove_what_the_dead_left(path)
    part = _part_of(path)
    try:
        with open(part, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _flush_directory(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not the one beside it, or none at all
        raise
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """An empty directory to fill, which becomes `path` when the block ends without error.

    It stands beside `path`, which is not there or is empty; the directories above are made. After
    an error nothing is left of it. Raises OSError, which names `path`, where it cannot be made.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_what_the_dead_left(path)
    part = _part_of(path)
    part.mkdir()
    try:
        yield part
        for file in part.iterdir():
            _flush_file(file)
        with suppress(FileNotFoundError):
            path.rmdir()
        part.rename(path)
        _flush_directory(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not what stands beside it
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Write `parts`, one after the other, to `path`: whole or not at all."""
    with replacing(path) as file:
        file.writelines(parts)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 to `path`: whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write `content`, indented, to `path`: whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _part_of(path: Path) -> Path:
    """A name beside `path`, of this process alone, for what is to take its place."""
    writer = f"{socket.gethostname()}-{os.getpid()}"
    return path.with_name(f"{path.name}.{writer}-{secrets.token_hex(4)}.part")


def _remove_what_the_dead_left(path: Path) -> None:
    """Remove what processes of this machine, killed while they wrote `path`, left beside it."""
    start = f"{path.name}.{socket.gethostname()}-"
    for part in path.parent.glob(f"{glob.escape(start)}*-*.part"):
        process = part.name.removeprefix(start).partition("-")[0]
        with suppress(OSError):
            if process.isdecimal() and not _is_alive(int(process)):
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _is_alive(process: int) -> bool:
    """Whether there is such a process on this machine, or no way to know."""
    if os.name != "posix":
        return True  # there, a signal would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_directory(directory: Path) -> None:
    """Make a rename in `directory` last; systems that cannot flush a directory do without."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
