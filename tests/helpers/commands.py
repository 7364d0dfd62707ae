"""Runs the project's commands as a user does: in a process of their own, or in this one.

A process of its own takes about 5 s more, to load torch and Lightning. It is for what depends on
it: signals, exact bits, what the interpreter prints when it dies.
"""

import io
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from cli.folders import use_folder
from common.terminal import set_quiet

ROOT = Path(__file__).parents[2]
PYTHONPATH = os.environ.get("PYTHONPATH")

# A run of seconds: a tiny network on a text of a few kilobytes.
TINY = (
    "model.n_layers=1",
    "model.d_model=32",
    "model.n_heads=2",
    "data=text",
    "data.seq_len=32",
    "data.batch_size=4",
    "optimizer.warmup_steps=2",
    "trainer.max_steps=20",
    "trainer.val_check_interval=10",
    "trainer.log_every_n_steps=1",
    "evaluation.passages=3",
    "evaluation.target_tokens=16",
)


def command(
    script: str, *arguments: str, cwd: Path, python_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`python <script> <arguments>` in `cwd`, with one thread and a cache folder of its own.

    `python_path` is where a callback of the test's own is found.
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ROPEWALK_CACHE": str(cwd / "cache"),
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, [python_path, PYTHONPATH]))),
    }
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def command_here(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in this process; whatever is raised but SystemExit comes through."""
    out, err = io.StringIO(), io.StringIO()
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(cwd)
    torch.set_num_threads(1)
    try:
        with (
            mock.patch.dict(os.environ, {"ROPEWALK_CACHE": str(cwd / "cache")}),
            mock.patch.object(sys, "argv", [script, *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            status = 0
            try:
                runpy.run_path(str(ROOT / script), run_name="__main__")
            except SystemExit as stop:
                status = stop.code or 0
    finally:
        set_quiet(False)
        use_folder(None)
        os.chdir(before)
        torch.set_num_threads(threads)
    return subprocess.CompletedProcess(sys.argv, status, out.getvalue(), err.getvalue())


def some(cases: Sequence[Any], *, default: int) -> list[Any]:
    """The first `default` cases as they are, the others marked slow."""
    slow = [pytest.param(case, marks=pytest.mark.slow) for case in cases[default:]]
    return [*cases[:default], *slow]


def write_text(path: Path, lines: int = 1200) -> Path:
    """A small text with something to learn: counting, in words and digits."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    path.write_text(
        "".join(
            f"line {n}: {' '.join(words[int(d)] for d in str(n))} and {n * 7 % 1000}\n"
            for n in range(lines)
        )
    )
    return path


def refused(script: str, *arguments: str, monkeypatch, capfd) -> str:
    """The message of a command that must refuse its arguments, run in this process."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    set_quiet(False)
    use_folder(None)
    output = capfd.readouterr()
    assert stop.value.code == 2, output
    assert "Traceback" not in output.err
    assert output.out == ""
    return output.err.removeprefix("error: ").rstrip("\n")
