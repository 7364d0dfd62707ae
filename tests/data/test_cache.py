"""The token cache: right ids whatever happened to its files, and writers that do not clash."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import data.cache
from data.cache import cache_folder, write_cached
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
    write_cached(cache / "file", b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(ValueError, match=r"ROPEWALK_CACHE=.*No space left"):
        write_cached(cache / "file", b"new")
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
