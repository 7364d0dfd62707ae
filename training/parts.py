"""Callbacks and loggers of the user's: the objects that the config names by `_target_`."""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch import callbacks as lightnings
from lightning.pytorch.loggers import Logger

from common.rules import shown
from training.kept import RESULTS
from training.metrics_file import METRICS
from training.samples_file import SAMPLES

T = TypeVar("T", L.Callback, Logger)

_LOGGER: Any = Logger  # abstract, which `type[T]` does not take
# What a run keeps for itself, in its directory
KEPT = ("checkpoints", "evaluations", ".hydra", METRICS, SAMPLES, RESULTS)
MONITORS = ("val/loss", "val/bpb")  # what a validation logs for callbacks to follow
# Lightning's callbacks that break a promise of a run, or do nothing in one.
UNFIT: dict[type[L.Callback], str] = {
    lightnings.StochasticWeightAveraging: "counts epochs, of which there are none",
    lightnings.GradientAccumulationScheduler: "counts epochs; use trainer.accumulate_grad_batches",
    lightnings.BackboneFinetuning: "counts epochs, of which there are none",
    lightnings.WeightAveraging: "keeps weights that evaluate.py would not take",
    lightnings.BatchSizeFinder: "trains on batches of its own; set data.batch_size",
    lightnings.LearningRateFinder: "trains on batches of its own; sweep optimizer.lr with -m",
    lightnings.ModelPruning: "changes the names of the weights, which evaluate.py would not find",
    lightnings.ProgressBar: "stands in the way of callbacks.progress",
    lightnings.ModelSummary: "repeats what a run says in its first lines",
}


def build_callbacks(settings: Mapping[str, Any]) -> dict[str, L.Callback]:
    """The callbacks of the group `callbacks`, by key; ValueError for one that cannot be used."""
    made = {}
    for name, entry in settings.items():
        if entry is not None:  # null: without it
            made[name] = _build(f"callbacks.{name}", entry, L.Callback)
            _check_fit(f"callbacks.{name}", made[name])
    return made


def named(settings: Mapping[str, Any], callbacks: Sequence[L.Callback]) -> dict[str, L.Callback]:
    """By key, the callbacks that were built from `settings`; there may be more behind them."""
    keys = [name for name, entry in settings.items() if entry is not None]
    return dict(zip(keys, callbacks, strict=False))


def place_checkpoints(
    settings: Mapping[str, Any], callbacks: Sequence[L.Callback], checkpoints: Path
) -> None:
    """Let every ModelCheckpoint save in a directory of its own, `checkpoints`/<key>.

    In the run's own `checkpoints` the two would replace and remove each other's files: ValueError
    for one that is told to save there. `settings`: the group that `callbacks` were built from.
    """
    for key, callback in named(settings, callbacks).items():
        if not isinstance(callback, lightnings.ModelCheckpoint):
            continue
        if callback.dirpath is None:
            callback.dirpath = str(checkpoints / key)
        elif Path(callback.dirpath).resolve() == checkpoints.resolve():
            raise ValueError(
                f"callbacks.{key}.dirpath={callback.dirpath}: is where the run keeps its own "
                f"checkpoints; leave it out for {checkpoints / key}"
            )


def build_loggers(
    settings: Mapping[str, Any], directory: Path, run_name: str = ""
) -> dict[str, Logger]:
    """The loggers of the group `logger`, by key, which write below `directory`.

    `run_name`: what those that keep many runs know this one by.

    ValueError for one that cannot be made, or would write elsewhere.
    """
    made = {}
    for name, entry in settings.items():
        if entry is not None:
            made[name] = _build(f"logger.{name}", entry, _LOGGER, str(directory), run_name)
            _check_inside(f"logger.{name}", made[name], directory)
    return made


def blamed(error: Exception, parts: Mapping[str, object]) -> str | None:
    """The key of the part in whose code `error` was raised; None where it was in another's."""
    frame: TracebackType | None = error.__traceback__
    found = None
    while frame is not None:
        of_frame = frame.tb_frame.f_locals.get("self")
        found = next((key for key, part in parts.items() if part is of_frame), found)
        frame = frame.tb_next
    return found


def first_line(error: BaseException) -> str:
    """What an exception says, in a line; its class where it says nothing."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0].strip()[:300] if lines else type(error).__name__


def _build(key: str, entry: Any, kind: type[T], save_dir: str = "", run_name: str = "") -> T:
    """The object of one entry."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("_target_"), str):
        raise ValueError(
            f"{key}={shown(entry)}: must be null, or a group with a class: {key}._target_=…"
        )
    made_by = _find(key, entry["_target_"], kind)
    taken = signature(made_by).parameters
    ours = {"save_dir": save_dir} if "save_dir" in taken else {}
    for name in ours.keys() & entry.keys():
        raise ValueError(f"{key}.{name}={shown(entry[name])}: is set by train.py; leave it out")
    try:
        named = {"run_name": run_name} if "run_name" in taken else {}
        made = instantiate({**named, **entry, **ours})
    except Exception as error:
        reason = f"cannot be made ({first_line(error)})"
        raise ValueError(f"{key}: {reason}; mend it, or {key}=null") from error
    if not isinstance(made, kind):
        raise ValueError(f"{key}: must be made at once; leave out _partial_ and the like")
    return made


def _find(key: str, target: str, kind: type[T]) -> type[T]:
    """The class of a dotted name, seen to be the right kind before anything of it is called."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(_module(module), name)
    except Exception as error:
        reason = f"cannot be made ({first_line(error)})"
        raise ValueError(f"{key}._target_={target}: {reason}; mend it, or {key}=null") from error
    if not isinstance(found, type) or not issubclass(found, kind):
        raise ValueError(f"{key}._target_={target}: must be a {kind.__name__} of Lightning's")
    return found


def _module(name: str) -> ModuleType:
    """A module by its name; what is installed nowhere may lie in the working directory."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        sys.path.append(os.getcwd())  # last, so that it shadows nothing
        return import_module(name)


def _check_fit(key: str, callback: L.Callback) -> None:
    for cls, reason in UNFIT.items():
        if isinstance(callback, cls):
            raise ValueError(f"{key}: {type(callback).__name__} {reason}; leave it out")
    monitor = getattr(callback, "monitor", None)
    if monitor is not None and monitor not in MONITORS:
        raise ValueError(
            f"{key}.monitor={shown(monitor)}: must be one of {', '.join(MONITORS)}, which follow "
            f"a validation; try {key}.monitor=val/loss"
        )


def _check_inside(key: str, logger: Logger, directory: Path) -> None:
    """What a logger writes must be in the run's own directory, apart from what is there."""
    try:
        place = logger.log_dir
    except Exception as error:
        raise ValueError(f"{key}: has no directory ({first_line(error)}); mend it") from error
    if place is None:
        return
    inside = os.path.relpath(Path(place).resolve(), directory.resolve()).split(os.sep)[0]
    if inside == os.pardir or inside in KEPT:
        where = "outside the run" if inside == os.pardir else "which the run keeps for itself"
        raise ValueError(f"{key}: would write to {place}, {where}; leave out name and version")
