"""Pinned files: named by commit, size and sha256; downloaded once, verified on every use."""

import hashlib
import http.client
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data.cache import cache_folder, write_cached
from data.progress import OnProgress, silent

TIMEOUT_SECONDS = 20  # without a byte
SLOWEST = 4096  # bytes a second, over the whole download; a modem is faster
CHUNK_BYTES = 1 << 16


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A pinned file is at its own URL, or it is not there: no other host or scheme is asked."""

    def redirect_request(self, *_: Any) -> None:
        """None: a redirection is then an error, as 404 is."""


_open = urllib.request.build_opener(_NoRedirect).open


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


def fetch(file: PinnedFile, on_progress: OnProgress = silent) -> bytes:
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
    with write_cached(cache_folder() / "downloads" / f"{file.name}.txt") as cached:
        cached.write(content)
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


def _download(file: PinnedFile, on_progress: OnProgress) -> bytes:
    """The bytes at the file's URL, read to at most one byte too many, and verified."""
    content = bytearray()
    latest = time.monotonic() + TIMEOUT_SECONDS + file.bytes / SLOWEST
    with _open(file.url, timeout=TIMEOUT_SECONDS) as response:
        while len(content) <= file.bytes:
            # read1 hands over what has come, so that slow downloads move the display too.
            chunk = response.read1(min(CHUNK_BYTES, file.bytes + 1 - len(content)))
            if not chunk:
                break
            content += chunk
            done = min(len(content), file.bytes)
            on_progress(f"Downloading {file.name}", done, file.bytes)
            if time.monotonic() > latest:
                raise ValueError(f"too slow: {done} of {file.bytes} bytes came")
    if len(content) != file.bytes:
        much = "more" if len(content) > file.bytes else f"{len(content)}"
        raise ValueError(f"size differs: {much} bytes came, must be {file.bytes}")
    if (sha256 := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"content differs: its sha256 is {sha256}, must be {file.sha256}")
    return bytes(content)
