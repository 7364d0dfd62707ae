"""Runs of train.py in forked children that are killed, and what is left of them compared.

A child is forked from a process that has imported everything, so that a trial takes a fraction of
a second. `Home.train` runs the real script on real arguments; `Sabotage` lets a child die at an
exact place in it.
"""

import json
import os
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]

from commands import TINY, write_text  # noqa: E402 - found by the line above

# Dropout, accumulation, a sampler, tasks in the data, heads that read passages as one.
OPTIONS = (
    *TINY,
    "model.n_layers=2",
    "model.dropout=0.2",
    "model.window=16",
    "model.pattern=[window,full-nope]",
    "model.ssmax=true",
    "model.crossbatch=2",
    "crossbatch_from=4",
    "data.path=text.txt",
    "data.strings=0.3",
    "data.val_tokens=512",
    "callbacks.samples.max_new_tokens=8",
    "callbacks.samples.every_n_validations=2",
    "trainer.accelerator=cpu",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_steps=16",
    "trainer.val_check_interval=4",
    "evaluation.lengths=[32,64]",
    "evaluation.methods=[none,yarn]",
)
TIMED = ("train/tokens_per_second", "tokens_per_second", "seconds", "mfu", "run_dir")

Sabotage = Callable[[], None]


class Home:
    """A directory with a text, in which runs are started and killed."""

    def __init__(self, path: Path, options: tuple[str, ...] = OPTIONS) -> None:
        self.path, self.options = path, options
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "text.txt", 300)

    def train(self, name: str, *more: str, sabotage: Sabotage | None = None) -> int:
        """Start a run, or go on with it; the process id of the child."""
        arguments = [*self.options, *more, f"run_dir={name}", "resume=auto"]
        return self.run("train.py", *arguments, sabotage=sabotage, log=name)

    def run(
        self, script: str, *arguments: str, sabotage: Sabotage | None = None, log: str = "log"
    ) -> int:
        """A command in a child; its output goes to `<log>.log`."""
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            status = self._run_here(script, arguments, sabotage, self.path / f"{log}.log")
        finally:
            os._exit(status)

    def _run_here(
        self, script: str, arguments: tuple[str, ...], sabotage: Sabotage | None, log: Path
    ) -> int:
        os.chdir(self.path)
        os.environ["ROPEWALK_CACHE"] = str(self.path / "cache")
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        torch.set_num_threads(1)
        if sabotage is not None:
            sabotage()
        sys.argv = [script, *arguments]
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        return 0

    def log(self, name: str) -> str:
        """All that the children of a run have printed."""
        path = self.path / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def finish(self, name: str, *more: str) -> None:
        """Go on with a run until it has ended well."""
        status = wait(self.train(name, *more))
        assert status == 0, f"exit status {status}\n{self.log(name)}"

    def remove(self, name: str) -> None:
        """Forget a run."""
        shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / f"{name}.log").unlink(missing_ok=True)


def wait(child: int) -> int:
    """The child's exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_until(child: int, seconds: float) -> int | None:
    """The same, or None where the child still runs after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def kill_at(module: Any, name: str, call: int, *, before: bool = True) -> Sabotage:
    """Die of SIGKILL at the `call`-th call of a function, before or after it has worked."""

    def install() -> None:
        original, calls = getattr(module, name), [0]

        def killing(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == call and before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **kwargs)
            if calls[0] == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(module, name, killing)

    return install


def left(run: Path) -> dict[str, Any]:
    """All that a finished run has left and that must not depend on when it was interrupted."""
    return {
        "metrics": [_untimed(json.loads(line)) for line in _lines(run / "metrics.jsonl")],
        "samples": (run / "samples.txt").read_text(),
        "results": _untimed(json.loads((run / "results.json").read_text())),
        "extrapolation": _figures(run / "extrapolation.json"),
        "cells": [_cell(line) for line in _lines(run / "cells.jsonl")],
        "events": _events(run / "tensorboard"),
        "files": sorted(
            str(p.relative_to(run)) for p in run.rglob("*") if "tfevents" not in p.name
        ),
        **{name: _checkpoint(run / f"checkpoints/{name}.ckpt") for name in ("best", "last")},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMED}


def _figures(path: Path) -> dict[str, Any]:
    methods = json.loads(path.read_text())["methods"]
    return {name: [one["nll"], one["bpb"], one["ci95"]] for name, one in methods.items()}


def _cell(line: str) -> dict[str, Any]:
    values = json.loads(line)
    return {key: values.get(key) for key in ("cell", "figures", "reason", "text")}


def _events(directory: Path) -> dict[str, list[Any]]:
    """Every point of every sub-run, by tag: (step, value), in order, twice where it is twice."""
    points: dict[str, list[Any]] = {}
    for path in sorted(directory.rglob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag not in TIMED and not value.tag.startswith("_hparams_"):
                    tag = f"{path.parent.relative_to(directory)}:{value.tag}"
                    content = value.tensor.SerializeToString()
                    points.setdefault(tag, []).append((event.step, content))
    return {tag: sorted(values, key=lambda point: point[0]) for tag, values in points.items()}


def _checkpoint(path: Path) -> dict[str, bytes]:
    """What decides how a run goes on, by name: bytes of tensors, words of everything else."""
    contents = torch.load(path, weights_only=True)
    flat: dict[str, bytes] = {}
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step"):
        _flatten(contents[key], key, flat)
    return flat


def _flatten(value: Any, name: str, flat: dict[str, bytes]) -> None:
    if isinstance(value, torch.Tensor):
        flat[name] = value.numpy().tobytes()
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            _flatten(item, f"{name}.{key}", flat)
    else:
        flat[name] = repr(value).encode()


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of what differs between what two runs have left."""
    return [key for key in one if one[key] != other.get(key)]
