"""The token cache: right ids whatever happened to its files, and writers that do not clash."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import data.cache
from data.cache import cache_folder, check_uncut, write_cached
from data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer

ROOT = Path(__file__).resolve().parents[2]
TEXT = "Ropes are laid in a long straight lane. " * 1000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def map_tokens(text: str, tokenizer: Tokenizer, split: str) -> np.ndarray:
    """The ids of a text that is in memory."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return data.cache.map_tokens(lambda: [text], sha256, tokenizer, split)


def token_file(cache: Path) -> Path:
    (file,) = (path for path in cache.rglob("*") if path.is_file())
    return file


@pytest.mark.parametrize(
    "text, dtype", [(TEXT, np.uint8), ("".join(map(chr, range(1000))), np.uint16)]
)
def test_maps_the_ids(cache: Path, text: str, dtype: type) -> None:
    tokenizer = CharTokenizer(text)
    expected = tokenizer.encode(text).tolist()
    for _ in range(2):
        tokens = map_tokens(text, tokenizer, "train")
        assert isinstance(tokens, np.memmap) and tokens.dtype == dtype and tokens.ndim == 1
        assert not tokens.flags.writeable
        assert tokens.tolist() == expected
    assert token_file(cache).stat().st_size < 4 * len(text)


def test_second_time_nothing_is_encoded_or_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    map_tokens(TEXT, ByteTokenizer(), "train")
    before = token_file(cache).stat()
    monkeypatch.setattr(ByteTokenizer, "encode", None)
    assert bytes(map_tokens(TEXT, ByteTokenizer(), "train")) == TEXT.encode()
    after = token_file(cache).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_another_text_tokenizer_or_split_is_another_file(cache: Path) -> None:
    map_tokens(TEXT, ByteTokenizer(), "train")
    map_tokens(TEXT + "!", ByteTokenizer(), "train")
    map_tokens(TEXT, ByteTokenizer(), "validation")
    map_tokens(TEXT, CharTokenizer(TEXT), "train")
    map_tokens(TEXT, CharTokenizer(TEXT + "!"), "train")
    assert len(list((cache / "tokens").iterdir())) == 5


@pytest.mark.parametrize("keep", [0, 1, 31, 32, 33, 20_000, len(TEXT) + 31])
def test_a_file_cut_short_is_written_anew(cache: Path, keep: int) -> None:
    map_tokens(TEXT, ByteTokenizer(), "train")
    file = token_file(cache)
    file.write_bytes(file.read_bytes()[:keep])
    assert bytes(map_tokens(TEXT, ByteTokenizer(), "train")) == TEXT.encode()
    assert token_file(cache).stat().st_size == 32 + len(TEXT)


@pytest.mark.parametrize("offset", [0, 31, 32, 5000, -1])
def test_a_flipped_bit_is_found(cache: Path, offset: int) -> None:
    map_tokens(TEXT, ByteTokenizer(), "train")
    file = token_file(cache)
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
    assert bytes(map_tokens(TEXT, ByteTokenizer(), "train")) == TEXT.encode()
    assert file.read_bytes() != content


def test_an_empty_text_has_no_file(cache: Path) -> None:
    assert len(map_tokens("", ByteTokenizer(), "train")) == 0
    assert not cache.exists()


def test_writers_at_the_same_time_do_not_clash(cache: Path) -> None:
    script = (
        "import sys, hashlib; from data.cache import map_tokens;"
        "from data.tokenizers import ByteTokenizer;"
        "text = 'spun yarn ' * 1_000_000; sha256 = hashlib.sha256(text.encode()).hexdigest();"
        "sys.stdin.readline();"
        "tokens = map_tokens(lambda: [text], sha256, ByteTokenizer(), 'train');"
        "print(hashlib.sha256(tokens).hexdigest())"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for writer in writers:  # all are let go together
        writer.stdin.write("\n")
        writer.stdin.flush()
    expected = hashlib.sha256(b"spun yarn " * 1_000_000).hexdigest()
    assert [writer.communicate()[0].strip() for writer in writers] == [expected] * 4
    assert token_file(cache).name.endswith(".uint8")  # one file, and no .part


def test_a_failed_write_leaves_the_old_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write_cached(cache / "file") as file:
        file.write(b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with (
        pytest.raises(ValueError, match=r"ROPEWALK_CACHE=.*No space left"),
        write_cached(cache / "file") as file,
    ):
        file.write(b"new")
    assert [path.read_bytes() for path in cache.iterdir()] == [b"old"]


def test_unwritable_folder_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"ROPEWALK_CACHE=.*file: cannot write"):
        map_tokens(TEXT, ByteTokenizer(), "train")


@pytest.mark.parametrize("value", [None, ""])
def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ROPEWALK_CACHE")
    if value is not None:
        monkeypatch.setenv("ROPEWALK_CACHE", value)
    assert cache_folder() == tmp_path / ".cache" / "ropewalk"


def test_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROPEWALK_CACHE", "~/elsewhere")
    assert cache_folder() == tmp_path / "elsewhere"


@pytest.mark.parametrize("size, spared", [(0, True), (1 << 20, False)])
def test_a_large_file_is_read_in_full_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, size: int, spared: bool
) -> None:
    monkeypatch.setattr(data.cache, "ALWAYS_READ", size)
    reports: list[tuple] = []
    map_tokens(TEXT, ByteTokenizer(), "train")
    tokens = data.cache.map_tokens(
        lambda: [],
        hashlib.sha256(TEXT.encode()).hexdigest(),
        ByteTokenizer(),
        "train",
        lambda *report: reports.append(report),
    )
    assert bytes(tokens) == TEXT.encode()
    assert (not reports) == spared


def cut(file: Path) -> None:
    os.truncate(file, 5000)


def flipped_with_its_old_time(file: Path) -> None:
    status, content = file.stat(), bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.with_name("other").write_bytes(content)
    file.with_name("other").rename(file)


@pytest.mark.parametrize("damage", [cut, flipped_with_its_old_time, replaced])
def test_whatever_touches_a_large_file_has_it_read_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(data.cache, "ALWAYS_READ", 0)
    map_tokens(TEXT, ByteTokenizer(), "train")
    (file,) = (cache / "tokens").glob("*.uint8")
    damage(file)
    assert bytes(map_tokens(TEXT, ByteTokenizer(), "train")) == TEXT.encode()


@pytest.mark.parametrize(
    "content", [b"", b"[1, 2]", b"{", b"null", b"\xff", b"[" * 200_000], ids=range(6)
)
def test_a_damaged_stamp_tells_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(data.cache, "ALWAYS_READ", 0)
    map_tokens(TEXT, ByteTokenizer(), "train")
    (file,) = (cache / "tokens").glob("*.stamp")
    whole = file.read_bytes()
    file.write_bytes(content)
    assert bytes(map_tokens(TEXT, ByteTokenizer(), "train")) == TEXT.encode()
    assert file.read_bytes() == whole


def test_what_a_killed_writer_left_goes_with_the_next_writing(cache: Path) -> None:
    (cache / "tokens").mkdir(parents=True)
    old, new = (cache / "tokens" / f"train-{name}.uint8.1-ab.part" for name in ("old", "new"))
    for file in (old, new):
        file.touch()
    os.utime(old, (0, 0))
    map_tokens(TEXT, ByteTokenizer(), "train")
    assert not old.exists() and new.exists()  # that one may have a writer, on another machine


CUT_UNDER_A_READER = """
import os, sys
import numpy as np
from data.batches import batch
from data.cache import check_uncut
path, checks = sys.argv[1:]
tokens = np.memmap(path, np.uint8, "r", 32)
os.truncate(path, 4096)
for step in range(100):
    if checks == "checked":
        check_uncut(tokens[:-1])
    batch(0, step, tokens=tokens, seq_len=16, batch_size=64)
"""


@pytest.mark.parametrize("checks", ["checked", "unchecked"])
def test_a_file_cut_under_a_reader_is_an_error(tmp_path: Path, checks: str) -> None:
    file = tmp_path / "train-0.uint8"
    file.write_bytes(bytes(1 << 20))
    ended = subprocess.run(
        [sys.executable, "-c", CUT_UNDER_A_READER, str(file), checks],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if checks == "unchecked":  # the control: what the check is for
        assert ended.returncode == -signal.SIGBUS and ended.stderr == ""
        return
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"OSError: [Errno 5] has been cut from 1,048,576 to 4,096 bytes while it was in use; the "
        f"same command writes it anew: '{file}'"
    )


def test_a_file_that_is_whole_or_replaced_passes(tmp_path: Path) -> None:
    check_uncut(np.zeros(3))
    file = tmp_path / "tokens"
    file.write_bytes(bytes(1000))
    tokens = np.memmap(file, np.uint8, "r", 32)
    check_uncut(tokens)
    file.unlink()  # the map keeps the file that it was made of
    check_uncut(tokens)
    assert not tokens.any()
