"""Pinned files: named by commit, size and sha256; downloaded once, verified on every use."""

import hashlib
import http.client
import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from data.cache import cache_folder, write_cached

TIMEOUT_SECONDS = 20
CHUNK_BYTES = 1 << 16

# Called with the file's name, the bytes that have come and the bytes in all.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PinnedFile:
    """A file in a GitHub repository as it stood at one commit."""

    name: str
    split: str
    github: str  # owner/repository
    commit: str
    path: str
    bytes: int
    sha256: str
    encoding: str

    @property
    def url(self) -> str:
        """Where the file's bytes are to be had."""
        return f"https://raw.githubusercontent.com/{self.github}/{self.commit}/{quote(self.path)}"


@cache
def pinned_files(corpus: str) -> tuple[PinnedFile, ...]:
    """The files of a corpus, in the order in which pinned.json lists them."""
    manifest = json.loads(Path(__file__).with_name("pinned.json").read_text(encoding="utf-8"))
    return tuple(PinnedFile(**entry) for entry in manifest[corpus])


def fetch(file: PinnedFile, on_progress: OnProgress | None = None) -> bytes:
    """The file's bytes, which match its sha256: from the cache folder, else from its URL.

    Raises:
        ValueError: it could not be had, or what came is not that file. The cache folder is then
            as it was before.
    """
    if (content := find(file)) is not None:
        return content
    try:
        content = _download(file, on_progress)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ValueError(
            f"{file.name}: cannot download {file.url} ({error}); data=stdlib needs no download.\n"
            f"Or put the file ({file.bytes} bytes, sha256 {file.sha256}), under any name, "
            f"into the cache folder {cache_folder()} (set by ROPEWALK_CACHE)"
        ) from error
    write_cached(cache_folder() / "downloads" / f"{file.name}.txt", content)
    return content


def find(file: PinnedFile) -> bytes | None:
    """The content of a file in the cache folder, under any name, that is `file`; else None."""
    for path in files_below(cache_folder()):
        try:
            content = path.read_bytes() if path.stat().st_size == file.bytes else b""
        except OSError:  # not ours to read: as good as not there
            continue
        if hashlib.sha256(content).hexdigest() == file.sha256:
            return content
    return None


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files below `folder`, links followed, each directory visited once."""
    seen = set()
    for directory, names, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:  # a link that leads back up
            names.clear()
            continue
        seen.add(real)
        yield from (path for name in files if (path := Path(directory, name)).is_file())


def _download(file: PinnedFile, on_progress: OnProgress | None) -> bytes:
    """The bytes at the file's URL, read to at most one byte too many, and verified."""
    content = bytearray()
    with urllib.request.urlopen(file.url, timeout=TIMEOUT_SECONDS) as response:
        while len(content) <= file.bytes:
            # read1 hands over what has come, so that slow downloads move the display too.
            chunk = response.read1(min(CHUNK_BYTES, file.bytes + 1 - len(content)))
            if not chunk:
                break
            content += chunk
            if on_progress:
                on_progress(file.name, min(len(content), file.bytes), file.bytes)
    if len(content) != file.bytes:
        much = "more" if len(content) > file.bytes else f"{len(content)}"
        raise ValueError(f"size differs: {much} bytes came, must be {file.bytes}")
    if (sha256 := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"content differs: its sha256 is {sha256}, must be {file.sha256}")
    return bytes(content)


class DownloadProgress:
    """An `OnProgress` that shows bars on stderr, once the downloads have taken `delay` seconds.

    To be used as a context manager, so that the display ends with the downloads.
    """

    def __init__(self, delay: float = 5.0) -> None:
        self.delay = delay
        self.first_call: float | None = None
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=Console(stderr=True),
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "DownloadProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        # Stopping a display that never started would still print an empty line.
        if self.progress.live.is_started:
            self.progress.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        """Note that `done` of the `total` bytes of the file `name` have come."""
        self.first_call = self.first_call or time.monotonic()
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(f"Downloading {name}", total=total)
        self.progress.update(self.tasks[name], completed=done)
        if time.monotonic() - self.first_call >= self.delay:
            self.progress.start()
