"""A text that was read once: known again by its files, and read again when anything has changed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data import TextDataModule
from data.progress import WorkProgress
from data.textfiles import TextFile

CONTENT = "naïve ropes — laid straight\n" * 400
OLD = 1_700_000_000  # seconds since 1970: long enough ago to be told from now by any clock


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("data.textfiles.BLOCK", 1 << 10)
    return tmp_path / "cache"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return written(tmp_path / "text.txt", CONTENT)


def written(path: Path, content: str) -> Path:
    path.write_text(content)
    os.utime(path, (OLD, OLD))
    return path


def prepared(path: Path, tokenizer: str = "char") -> TextDataModule:
    module = TextDataModule("text", str(path), tokenizer, seq_len=16)
    module.prepare()
    return module


def whole(module: TextDataModule) -> str:
    tokens = [module.train_tokens, module.val_tokens_array]
    return "".join(module.tokenizer.decode(ids) for ids in tokens)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read, once for each time."""
    paths: list[Path] = []
    blocks = TextFile._blocks
    monkeypatch.setattr(
        TextFile, "_blocks", lambda self, at: paths.append(self.path) or blocks(self, at)
    )
    return paths


def same(first: TextDataModule, second: TextDataModule) -> bool:
    return (
        first.fingerprint == second.fingerprint
        and first.tokenizer.state() == second.tokenizer.state()
        and np.array_equal(first.train_tokens, second.train_tokens)
        and all(map(np.array_equal, first.val_documents, second.val_documents))
    )


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
@pytest.mark.parametrize("documents", [1, 3, 12])
def test_a_second_start_reads_nothing(
    tmp_path: Path, readings: list[Path], tokenizer: str, documents: int
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(documents):
        written(folder / f"{i}.txt", CONTENT + str(i))
    first = prepared(folder, tokenizer)
    assert len(readings) >= documents
    readings.clear()
    second = prepared(folder, tokenizer)
    assert readings == []
    assert same(first, second)
    assert len(second.val_documents) == (1 if documents == 12 else documents)


def touched(text: Path, cache: Path) -> None:
    os.utime(text, (OLD, OLD + 1))


def rewritten_with_its_old_time(text: Path, cache: Path) -> None:
    written(text, CONTENT[::-1])


def replaced(text: Path, cache: Path) -> None:
    written(text.with_name("other"), CONTENT[::-1]).rename(text)


def damaged_index(text: Path, cache: Path) -> None:
    (index,) = (cache / "texts").iterdir()
    index.write_text(index.read_text().replace("rst", "rsx"))


def cut_index(text: Path, cache: Path) -> None:
    (index,) = (cache / "texts").iterdir()
    os.truncate(index, 50)


def lost_tokens(text: Path, cache: Path) -> None:
    for file in (cache / "tokens").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    "change",
    [touched, rewritten_with_its_old_time, replaced, damaged_index, cut_index, lost_tokens],
)
def test_anything_that_differs_is_read_again(
    text: Path, cache: Path, readings: list[Path], change: Callable[[Path, Path], None]
) -> None:
    prepared(text)
    readings.clear()
    change(text, cache)
    assert whole(prepared(text)) == text.read_text()
    assert readings


def test_another_tokenizer_reads_again(text: Path, readings: list[Path]) -> None:
    prepared(text, "char")
    readings.clear()
    assert whole(prepared(text, "byte")) == CONTENT
    assert readings


def test_another_file_of_the_folder_is_another_text(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    written(folder / "a.txt", CONTENT)
    first = prepared(folder)
    written(folder / "b.txt", CONTENT)
    second = prepared(folder)
    assert first.fingerprint["sha256"] != second.fingerprint["sha256"]
    (folder / "b.txt").unlink()
    assert same(prepared(folder), first)


def test_a_file_just_written_is_not_yet_known(text: Path, readings: list[Path]) -> None:
    """A clock of seconds could not tell the next writing from this one."""
    os.utime(text)
    prepared(text)
    readings.clear()
    prepared(text)
    assert readings


def test_a_cache_that_cannot_be_written_any_more_is_used(text: Path, cache: Path) -> None:
    """Someone else's, say: its tokens are there, and nothing needs to be written."""
    first = prepared(text)
    for file in (cache / "texts").iterdir():
        file.unlink()
    (cache / "texts").rmdir()
    (cache / "texts").touch()  # where a folder has to be: not even root can write there
    assert same(prepared(text), first)


def test_a_text_that_changes_between_its_readings_is_refused(
    text: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the file's stamp does not tell, no tokens get the name of another text."""
    monkeypatch.setattr(TextFile, "_check_same", lambda *_: None)

    def change(what: str) -> None:
        if what.startswith("Tokenizing"):
            written(text, CONTENT.replace("laid", "dial"))

    monkeypatch.setattr(WorkProgress, "__call__", lambda self, what, *_: change(what))
    with pytest.raises(ValueError, match="the text has changed while it was read"):
        prepared(text)
    assert not [path for path in (cache / "tokens").iterdir()]


class Terminated(BaseException):
    """What a handler of SIGTERM raises."""


@pytest.fixture
def handled() -> Iterator[None]:
    def raising(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, raising)
    yield
    signal.signal(signal.SIGTERM, before)


STAGES = ("Reading", "Examining the train", "Tokenizing the train", "Tokenizing the validation")


@pytest.mark.parametrize("stage", [*STAGES, None])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_done(
    text: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    handled: None,
    number: signal.Signals,
    stage: str | None,
) -> None:
    def call(self: WorkProgress, what: str, done: int, total: int) -> None:
        if stage is not None and what.startswith(stage) and done > total / 2:
            signal.raise_signal(number)

    monkeypatch.setattr(WorkProgress, "__call__", call)
    if stage is not None:
        with pytest.raises((KeyboardInterrupt, Terminated)):
            prepared(text)
        left = [path for path in cache.rglob("*") if path.is_file()]
        assert not [path for path in left if path.suffix == ".part"]
        names = {path.name.partition("-")[0] for path in left if path.parent.name == "tokens"}
        assert names == ({"train"} if stage == STAGES[-1] else set())
    else:  # the control: without a signal the files are there
        prepared(text)
        assert len(list((cache / "tokens").iterdir())) == 2
    monkeypatch.undo()
    monkeypatch.setenv("ROPEWALK_CACHE", str(cache))
    assert whole(prepared(text)) == CONTENT


def test_the_index_holds_no_text(text: Path, cache: Path) -> None:
    prepared(text)
    (index,) = (cache / "texts").iterdir()
    facts = json.loads(index.read_text())["facts"]
    assert facts["characters"] == "".join(sorted(set(CONTENT)))
    assert index.stat().st_size < 1000
