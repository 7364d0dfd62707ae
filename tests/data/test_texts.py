"""Texts in blocks: the same as whole, wherever they are; and files that do not hold still."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.textfiles
import data.texts
from data.textfiles import TextFile, read_texts, text_files
from data.texts import Text, joined

# Characters of one to four bytes, and line ends, which must stay as they are.
CONTENT = st.text("aé€\U0001f600\r\n\ufeff", max_size=60)


def in_file(path: Path, content: str) -> Text:
    path.write_bytes(content.encode())
    return TextFile(path).text(lambda _: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@settings(max_examples=60)
@given(content=CONTENT, block=st.integers(1, 9), data=st.data())
def test_blocks_are_the_text(folder: Path, content: str, block: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.textfiles.BLOCK", block)
        patch.setattr("data.texts.BLOCK", block)
        for text in (in_file(folder / "text", content), Text.of(content)):
            assert (len(text), str(text)) == (len(content), content)
            assert max(map(len, text), default=0) <= block + 1
            first = slice(*sorted(data.draw(st.tuples(st.integers(0, 60), st.integers(0, 60)))))
            second = slice(data.draw(st.integers(0, 60)), None)
            assert str(text[first]) == content[first]
            assert str(text[first][second]) == content[first][second]
            assert str(text) == content  # again


def test_joined_has_separators_between() -> None:
    reports: list[tuple] = []
    texts = [Text.of("ab"), Text.of(""), Text.of("c")]
    assert "".join(joined(texts, "work", lambda *report: reports.append(report))) == "ab\0\0c"
    assert reports == [("work", 2, 3), ("work", 3, 3)]


def test_a_stretch_far_in_is_not_read_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.textfiles, "BLOCK", 16)
    text = in_file(tmp_path / "text", "é" * 10_000)
    asked: list[int] = []
    decoded = TextFile._decoded
    monkeypatch.setattr(
        TextFile, "_decoded", lambda self, file, at: asked.append(at) or decoded(self, file, at)
    )
    assert str(text[9001:9003]) == "éé"
    assert len(asked) == 1 and 18_002 - 16 < asked[0] <= 18_002


def appended(path: Path) -> None:
    with open(path, "a") as file:
        file.write("more")


def rewritten_with_its_old_time(path: Path) -> None:
    status = path.stat()
    path.write_text("b" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_text("b" * status.st_size)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("change", [appended, rewritten_with_its_old_time, replaced])
@pytest.mark.parametrize("when", ["between two readings", "within one"])
def test_a_file_that_changes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], when: str
) -> None:
    monkeypatch.setattr(data.textfiles, "BLOCK", 16)
    path = tmp_path / "text"
    text = in_file(path, "a" * 1000)
    blocks = iter(text if when == "between two readings" else text[:999])
    if when == "within one":
        next(blocks)
    change(path)
    if when == "within one" and change is replaced:
        assert "".join(blocks) == "a" * (999 - 16)  # the file that was opened is as it was
        return
    if when == "within one":
        blocks = iter(text)
    with pytest.raises(ValueError, match=r"data\.path=.*text: has changed while it was read"):
        list(blocks)


def test_a_file_that_grows_while_it_is_read_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is faster than the reader would keep it reading for ever."""
    monkeypatch.setattr(data.textfiles, "BLOCK", 16)
    path = tmp_path / "text"
    path.write_text("a" * 100)
    calls: list[int] = []

    def on_bytes(count: int) -> None:
        calls.append(count)
        assert len(calls) < 50
        with open(path, "a") as file:
            file.write("a" * 32)

    with pytest.raises(ValueError, match="has changed while it was read"):
        TextFile(path).text(on_bytes)


@pytest.mark.parametrize("name", ["pipe", "zero", "folder/linked", "/proc/cpuinfo", "/proc/kmsg"])
def test_what_has_no_end_is_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "linked").symlink_to(tmp_path / "pipe")
    if name.startswith("/proc") and not Path(name).exists():
        pytest.skip("a system without /proc")
    with pytest.raises(ValueError, match=r"data\.path=.*(must be a regular file|is empty)"):
        text_files(tmp_path / name)


def test_a_folder_leaves_out_what_has_no_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "proc.txt").symlink_to("/proc/self/status")
    (tmp_path / "text.txt").write_text("text")
    assert {name: str(text) for name, text in read_texts(text_files(tmp_path)).items()} == {
        "text.txt": "text"
    }


@pytest.mark.parametrize("at", [0, 15, 16, 17, 40])
def test_wrong_bytes_are_found_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(data.textfiles, "BLOCK", 16)
    content = bytearray(b"line\n" * 20)
    content[at] = 0xE9  # begins a character of three bytes
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(ValueError, match=f"byte 0xe9 at offset {at}, line {at // 5 + 1}\\)"):
        read_texts(text_files(tmp_path / "text"))


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("text")
    file = TextFile(tmp_path / "text")
    (tmp_path / "text").unlink()
    with pytest.raises(ValueError, match=r"data\.path=.*text: cannot be read \(No such file"):
        file.text(lambda _: None)


def test_a_folder_is_one_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.textfiles, "MOST_FILES", 2)
    for name in ("a.txt", "b.md"):
        (tmp_path / name).write_text(name)
    assert list(text_files(tmp_path)) == ["a.txt", "b.md"]
    (tmp_path / "c.py").write_text("c")
    with pytest.raises(ValueError, match="must hold at most 2 "):
        text_files(tmp_path)
    with pytest.raises(ValueError, match=r"data\.path=/: is all there is; give a folder"):
        text_files("/")
