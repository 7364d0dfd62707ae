"""What the system refuses ends a command with one line and status 1; what there was stays whole."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import checkpoints
from commands import ROOT, TINY, command_here, write_text
from disk import file_size_limit
from training.callbacks.checkpoints import BestAndLast
from training.checkpoint_files import read_checkpoint

RUN = (*TINY, "data.path=text.txt", "run_dir=run", "callbacks=none", "trainer.max_steps=4")
SAVES = ("checkpoints.every_n_steps=1", "trainer.val_check_interval=2")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_text(tmp_path / "text.txt", lines=100)
    return tmp_path


def failure(script: str, *arguments: str, cwd: Path) -> str:
    """The one line of a command that the system refused something."""
    done = command_here(script, *arguments, cwd=cwd)
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def test_a_disk_that_fills_up_leaves_the_checkpoints_before(home: Path, monkeypatch) -> None:
    save = BestAndLast.save_last

    def on_a_full_disk(self: BestAndLast, trainer) -> None:
        with file_size_limit(10_000 if trainer.global_step == 3 else 2**40):
            save(self, trainer)

    monkeypatch.setattr(BestAndLast, "save_last", on_a_full_disk)
    line = failure("train.py", *RUN, *SAVES, cwd=home)
    assert line == "error: run/checkpoints/last.ckpt: File too large; make room there"
    assert read_checkpoint(home / "run/checkpoints/last.ckpt")["global_step"] == 2
    names = {path.name for path in (home / "run/checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}


def test_a_run_that_vanishes_is_not_made_again(home: Path, monkeypatch) -> None:
    save = BestAndLast.save_last

    def once_it_has_vanished(self: BestAndLast, trainer) -> None:
        shutil.rmtree(self.directory.parent)
        save(self, trainer)

    monkeypatch.setattr(BestAndLast, "save_last", once_it_has_vanished)
    line = failure("train.py", *RUN, *SAVES, cwd=home)
    assert "error: run/" in line and "No such file or directory; see that it is there" in line
    assert not (home / "run").exists()


@pytest.mark.slow
def test_a_run_that_cannot_be_written_is_not_gone_on_with(home: Path, monkeypatch) -> None:
    assert command_here("train.py", *RUN, cwd=home).returncode == 0
    (home / "run/results.json").unlink()
    before = (home / "run/.hydra/config.yaml").read_bytes()

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", read_only)
    line = failure("train.py", "resume=run", "trainer.max_steps=6", cwd=home)
    assert "Read-only file system; give it to this user, or take a place that can be" in line
    assert (home / "run/.hydra/config.yaml").read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("flush", ["1", "0"], ids=["at once", "at the end"])
def test_a_full_disk_as_stdout(flush: str, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "x.ckpt")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, ROOT / "generate.py", "checkpoint=x.ckpt", "prompt=a"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONUNBUFFERED": flush.strip("0")},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    where = "stdout: " if flush == "0" else ""  # where nothing is left to be written, nobody knows
    assert done.stderr == f"error: {where}No space left on device; make room there\n"
