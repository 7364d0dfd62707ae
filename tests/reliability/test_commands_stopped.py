"""Commands that are stopped outside of training: what is finished stays, and they say so."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import TINY, command_here, write_text
from evaluation import Cells

OPTIONS = (*TINY, "trainer.max_steps=2", "callbacks=none", "logger=none", "data.path=text.txt")
MEASURED = ("evaluation.lengths=[32,64]", "evaluation.methods=[none,yarn]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished run."""
    home = tmp_path_factory.mktemp("stopped")
    write_text(home / "text.txt")
    done = command_here("train.py", *OPTIONS, *MEASURED, "run_dir=whole", cwd=home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def stop_after_two_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Cells.add

    def stopping(self, key, cell) -> None:
        add(self, key, cell)
        if len(self) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Cells, "add", stopping)


def cells(directory: Path) -> list[dict]:
    lines = [json.loads(line) for line in (directory / "cells.jsonl").read_text().splitlines()]
    return [line["figures"] for line in lines[1:]]


def methods(directory: Path) -> dict:
    found = json.loads((directory / "extrapolation.json").read_text())["methods"]
    return {name: (figures["nll"], figures["ci95"]) for name, figures in found.items()}


@pytest.mark.slow
def test_the_evaluation_after_the_fit(home: Path, stop_after_two_cells, monkeypatch) -> None:
    options = (*OPTIONS, *MEASURED, "run_dir=cut")
    done = command_here("train.py", *options, cwd=home)
    assert done.returncode == 143
    said = "stopped by SIGTERM; 2 finished cells are kept; go on with: python train.py resume=cut"
    assert said in done.stderr and "Traceback" not in done.stderr
    assert cells(home / "cut") == cells(home / "whole")[:2]
    monkeypatch.undo()
    done = command_here("train.py", "resume=cut", cwd=home)
    assert done.returncode == 0, done.stderr
    assert cells(home / "cut") == cells(home / "whole")
    assert methods(home / "cut") == methods(home / "whole")


def test_an_evaluation(home: Path, stop_after_two_cells, monkeypatch) -> None:
    options = ("checkpoint=whole", "lengths=[32,64]", "methods=[none,yarn]", "passages=3")
    options += ("target_tokens=16", "output_dir=out put")
    done = command_here("evaluate.py", *options, cwd=home)
    assert done.returncode == 143
    said = "2 finished cells are kept; go on with the same command and 'output_dir=out put'"
    assert said in done.stderr and "Traceback" not in done.stderr
    monkeypatch.undo()
    done = command_here("evaluate.py", *options, cwd=home)
    assert done.returncode == 0 and "2 finished cells found" in done.stdout
    assert methods(home / "out put") == methods(home / "whole")


@pytest.mark.slow
def test_cells_of_another_checkpoint_are_not_taken(home: Path) -> None:
    """The run is trained on, so that its best checkpoint is another one."""
    shutil.copytree(home / "whole", home / "longer")
    done = command_here("train.py", "resume=longer", "trainer.max_steps=4", cwd=home)
    assert done.returncode == 0, done.stderr
    assert methods(home / "longer") != methods(home / "whole")


def test_generate(home: Path, monkeypatch) -> None:
    def pieces(*_: object) -> Iterator[str]:
        os.kill(os.getpid(), signal.SIGINT)
        yield "never printed"

    monkeypatch.setattr("data.tokenizers.ByteTokenizer.decode_stream", pieces)
    done = command_here("generate.py", "checkpoint=whole", "prompt=one ", cwd=home)
    assert (done.returncode, done.stdout) == (130, "one ")
    assert done.stderr == "\nstopped by SIGINT\n"
