"""Runs a command in a fork of this process, which has loaded everything: 0.2 s each, and no harm.

A fork cannot hang the tests, take all memory or leave anything in this process. Whoever trains in
forks must not have trained before: autograd's threads do not survive a fork.
"""

import gc
import importlib
import io
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn
from unittest import mock

import torch
from hydra._internal.hydra import Hydra
from hydra.types import RunMode

from commands import ROOT

WALL = 90  # seconds, on a busy machine
CPU = 30
MEMORY = 6 << 30  # bytes of address space more than this process has


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `status` as a shell tells it; None where it had to be killed."""

    status: int | None
    out: str
    err: str
    seconds: float


@cache
def warm() -> None:
    """Load what the commands load, and teach Hydra's parser its grammar."""
    for name in ("cli.extrapolate", "cli.subjects", "training.prepare"):
        importlib.import_module(name)
    from cli.compose import composed

    for name in ("train", "evaluate", "generate", "benchmark"):
        composed(name, ["seed=0"] if name != "evaluate" else [])


def forked(script: str, *arguments: str, cwd: Path, wall: float = WALL) -> Outcome:
    """`python <script> <arguments>` in `cwd`, within the limits above."""
    return forked_call(lambda: _command(script, arguments), cwd=cwd, wall=wall)


def forked_call(task: Callable[[], Any], *, cwd: Path, wall: float = WALL) -> Outcome:
    """The same for a function: status 0 when it returns."""
    start = time.monotonic()
    with TemporaryFile() as out, TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        if not (child := os.fork()):
            _become(task, cwd, out, err)
        status = _wait(child, start + wall)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
        return Outcome(status, *texts, time.monotonic() - start)


def _command(script: str, arguments: tuple[str, ...]) -> None:
    sys.argv = [script, *arguments]
    if {"-m", "--multirun"} & set(arguments):
        runpy.run_path(str(ROOT / script), run_name="__main__")
        return
    # Hydra composes all once more to learn whether this is a sweep: half of a refusal's time.
    with mock.patch.object(Hydra, "get_mode", lambda *_, **__: RunMode.RUN):
        runpy.run_path(str(ROOT / script), run_name="__main__")


def _become(task: Callable[[], Any], cwd: Path, out: IO[bytes], err: IO[bytes]) -> NoReturn:
    """In the child: take other streams and limits, run, and end without any cleaning up."""
    status = 70
    try:
        torch.cuda.is_available = lambda: False  # a fork cannot use a GPU that its parent uses
        gc.freeze()  # no collection has to go through what was there before
        os.chdir(cwd)
        _limit()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding="utf-8", write_through=True)
        status = _run(task)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU, spent + CPU + 5))


def _run(task: Callable[[], Any]) -> int:
    """What the interpreter's exit status would be, with what it would print."""
    try:
        task()
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _wait(child: int, deadline: float) -> int | None:
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
