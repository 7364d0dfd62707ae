"""Pinned downloads, from a server on this machine: verified, or not there at all."""

import gzip
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data.download import PinnedFile, fetch, files_below, find, pinned_files

CONTENT = b"To be, or not to be\n" * 50_000  # 1 MB, many chunks
ANSWERS = {
    "/right": CONTENT,
    "/short": CONTENT[:-1],
    "/long": CONTENT + b"!",
    "/other": b"?" + CONTENT[1:],
}


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A body that goes on until the other side has had enough."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"To be, or not to be\n" * 1000)
            Handler.sent += 20_000


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """A byte at a time, which never is too long without one."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"T")
            handler.wfile.flush()
            time.sleep(0.05)


def packed(handler: BaseHTTPRequestHandler) -> None:
    """The right content in gzip, which nobody has asked for."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.end_headers()
    handler.wfile.write(gzip.compress(CONTENT))


def promising(handler: BaseHTTPRequestHandler) -> None:
    """Fewer bytes than the header says, and the line is cut."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:1000])


def elsewhere(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """A redirection to `target`."""

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    return redirect


ATTACKS = {
    "/endless": endless,
    "/dripping": dripping,
    "/packed": packed,
    "/promising": promising,
    "/here": elsewhere("/right"),
    "/file": elsewhere("file:///etc/passwd"),
    "/ftp": elsewhere("ftp://127.0.0.1/right"),
    "/loop": elsewhere("/loop"),
}


class Handler(BaseHTTPRequestHandler):
    requests = 0
    sent = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if attack := ATTACKS.get(self.path):
            return attack(self)
        body = ANSWERS.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


def pinned(url: str, monkeypatch: pytest.MonkeyPatch, content: bytes = CONTENT) -> PinnedFile:
    """A file pinned to `content` that is to be had, or not, at `url`."""
    monkeypatch.setattr(PinnedFile, "url", url)
    sha256 = hashlib.sha256(content).hexdigest()
    return PinnedFile(
        "play", "train", "someone/plays", "0" * 40, "play.txt", len(content), sha256, "utf-8"
    )


def test_downloads_once(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pinned(f"{server}/right", monkeypatch)
    before = Handler.requests
    progress = []
    assert fetch(file, lambda *report: progress.append(report)) == CONTENT
    assert fetch(file) == CONTENT
    assert Handler.requests == before + 1
    assert progress[-1] == ("Downloading play", len(CONTENT), len(CONTENT))
    assert len(progress) > 5
    assert [path.read_bytes() for path in cache.rglob("*") if path.is_file()] == [CONTENT]


@pytest.mark.parametrize(
    "path, said",
    [
        ("/short", f"size differs: {len(CONTENT) - 1} bytes came"),
        ("/long", "size differs: more bytes came"),
        ("/other", "content differs: its sha256 is"),
        ("/nowhere", "404"),
        ("/endless", "size differs: more bytes came"),
        ("/packed", "size differs: "),
        ("/promising", "1000 bytes"),
        ("/here", "302"),
        ("/file", "302"),
        ("/ftp", "302"),
        ("/loop", "302"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    file = pinned(server + path, monkeypatch)
    with pytest.raises(ValueError) as error:
        fetch(file)
    message = str(error.value)
    assert said in message
    assert len(message.splitlines()) == 2
    for told in (server + path, str(cache), "data=stdlib", "ROPEWALK_CACHE", file.sha256):
        assert told in message
    assert not cache.exists()


def test_too_much_is_cut_off_early(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Handler.sent = 0
    with pytest.raises(ValueError, match="more bytes came"):
        fetch(pinned(f"{server}/endless", monkeypatch))
    assert Handler.sent < len(CONTENT) + 8_000_000  # what the sockets' buffers hold


def test_a_drip_is_too_slow(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pinned(f"{server}/dripping", monkeypatch)
    monkeypatch.setattr("data.download.SLOWEST", 4 * len(CONTENT))  # a quarter of a second in all
    monkeypatch.setattr("data.download.TIMEOUT_SECONDS", 0.2)  # longer than from drop to drop
    with pytest.raises(ValueError, match=rf"too slow: \d+ of {len(CONTENT)} bytes came"):
        fetch(file)


@pytest.mark.parametrize("size", [0, -1, 1])
def test_a_pin_is_never_without_size_and_hash(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """No value of them means that anything is taken."""
    file = replace(pinned(f"{server}/right", monkeypatch), bytes=size, sha256="")
    with pytest.raises(ValueError, match=r"differs"):
        fetch(file)
    assert not cache.exists()


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pinned("http://127.0.0.1:9/closed", monkeypatch)  # the discard port: nobody listens
    with pytest.raises(ValueError, match=r"cannot download http://127\.0\.0\.1:9/closed"):
        fetch(file)
    assert not cache.exists()


def test_a_file_of_any_name_is_used_as_it_is(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pinned("http://127.0.0.1:9/closed", monkeypatch)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "some name").write_bytes(CONTENT)
    cache.mkdir()
    (cache / "decoy").write_bytes(b"?" + CONTENT[1:])  # of the right size
    (cache / "broken link").symlink_to("nowhere")
    (cache / "loop").symlink_to(cache)
    assert find(file) is None
    (cache / "link").symlink_to(elsewhere)
    assert fetch(file) == CONTENT


def test_links_that_lead_back_up_are_followed_once(cache: Path) -> None:
    (cache / "folder").mkdir(parents=True)
    (cache / "folder" / "file").touch()
    (cache / "folder" / "up").symlink_to(cache)
    assert [path.name for path in files_below(cache)] == ["file"]


def test_a_damaged_download_is_fetched_anew(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pinned(f"{server}/right", monkeypatch)
    fetch(file)
    path = cache / "downloads" / "play.txt"
    path.write_bytes(b"?" + CONTENT[1:])
    assert fetch(file) == CONTENT
    assert path.read_bytes() == CONTENT


def test_unwritable_cache(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ValueError, match=r"ROPEWALK_CACHE=.*cannot write"):
        fetch(pinned(f"{server}/right", monkeypatch))


@pytest.mark.parametrize("corpus, count", [("shakespeare", 1), ("books", 7)])
def test_manifest(corpus: str, count: int) -> None:
    files = pinned_files(corpus)
    assert len({file.name for file in files}) == len({file.url for file in files}) == count
    for file in files:
        assert file.url.startswith("https://raw.githubusercontent.com/")
        assert len(file.commit) == 40 and len(file.sha256) == 64 and file.bytes > 1_000_000
