"""Files are there whole or not at all, and what a killed process left is cleared away."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest

from common.files import new_directory, replacing, write_json, write_text


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "file") as file:
        file.write(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_it_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "b.json", {"x": 1})
    assert (tmp_path / "b.json").read_text() == '{\n  "x": 1\n}\n'


def test_a_directory_that_has_vanished_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_text(tmp_path / "run/file", "new")
    assert error.value.filename == str(tmp_path / "run/file")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path: Path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_text(tmp_path / "file", "new")
    assert error.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_what_a_dead_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    dead = tmp_path / f"last[1].ckpt.{gethostname()}-{int(ended.stdout)}-0a.part"
    alive = tmp_path / f"last[1].ckpt.{gethostname()}-{os.getpid()}-0b.part"
    other = tmp_path / f"best.ckpt.{gethostname()}-{int(ended.stdout)}-0c.part"
    for path in (dead, alive, other):
        path.touch()
    write_text(tmp_path / "last[1].ckpt", "new")
    assert {path.name for path in tmp_path.iterdir()} == {*("last[1].ckpt", alive.name, other.name)}


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    with new_directory(tmp_path / "a/b") as directory:
        write_text(directory / "file", "new")
        assert not (tmp_path / "a/b").exists()
    assert (tmp_path / "a/b/file").read_text() == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("there", [False, True])
def test_or_not_at_all(there: bool, tmp_path: Path) -> None:
    if there:
        (tmp_path / "a").mkdir()
    with pytest.raises(RuntimeError), new_directory(tmp_path / "a") as directory:
        write_text(directory / "file", "half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"] * there


def test_a_directory_that_holds_something_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError) as error, new_directory(tmp_path / "a") as directory:
        write_text(directory / "file", "new")
        write_text(tmp_path / "a/other", "old")
    assert error.value.filename == str(tmp_path / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "other"]


def test_what_a_killed_process_left_of_a_directory_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f"a.{gethostname()}-{dead.pid}-00.part"
    left.mkdir()
    (left / "file").write_text("half")
    with new_directory(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
