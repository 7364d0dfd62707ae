"""The one directory of all runs of a sweep: a new one, or that of a sweep that goes on."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cli.compose import composed, flatten, plain
from cli.errors import FULL, UserError
from cli.jobs import Sweep
from cli.names import default_name
from cli.overrides import Overrides
from cli.resume import differs, typed_keys
from cli.rundir import CONFIG, RUNS
from cli.saved_config import read_config
from common.lock import is_held
from common.terminal import say
from training.kept import RESULTS


@contextmanager
def sweep_directory(sweep: Sweep) -> Iterator[None]:
    """Give a sweep of train.py its directory, `runs/<name>/<timestamp>`.

    With `resume=auto` it is that of the newest one of the same command that is unfinished. One that
    no job has used is removed. UserError where it cannot be made.
    """
    lines = [str(one.input_line) for one in sweep.command.fixed()]
    config = composed("train", lines, with_hydra=True)
    today = plain(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    if today["resume"] not in (None, "auto"):
        yield  # every job goes on with that run
        return
    own = Overrides(lines, choices=config.hydra.runtime.choices)
    name = today["name"] or _name(today, own, sweep)
    if today["resume"] == "auto" and (found := _unfinished(RUNS / name, sweep, today, own)):
        say(f"resume=auto: going on with {found}")
        sweep.directory = found
        yield
        return
    missing = [path for path in (RUNS / name, RUNS) if not path.exists()]
    sweep.directory = _make(RUNS / name)
    try:
        yield
    finally:
        with suppress(OSError):  # it holds runs, or another's
            for path in (sweep.directory, *missing):
                path.rmdir()


def _name(today: dict[str, Any], own: Overrides, sweep: Sweep) -> str:
    """The name that all jobs have, of what is the same in all of them."""
    prefix = "hydra.sweeper.params."
    swept = [one.key_or_group for one in sweep.command.parsed if one.is_sweep_override()]
    swept += [key.removeprefix(prefix) for key in sweep.command.typed if key.startswith(prefix)]
    own.swept = [*own.swept, *swept]
    return default_name(today, own)


def _make(parent: Path) -> Path:
    """A new directory, this sweep's alone."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        path = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue  # of a run or a sweep that began in the same second
        except OSError as error:
            if error.errno in FULL:
                raise  # no mistake of the user's
            raise UserError(f"{path}: cannot be made ({error.strerror}); give name=") from error
    raise UserError(f"{parent / stamp}: a thousand runs in this second; give name=")


def _unfinished(parent: Path, sweep: Sweep, today: dict[str, Any], own: Overrides) -> Path | None:
    """The newest sweep of the same command with a job that has not ended, and that nobody runs."""
    now, typed = flatten(today), typed_keys(own, today)
    for directory in sorted(parent.glob("*"), reverse=True):
        labels = sweep.labels or [path.name for path in directory.glob("*")]
        runs = [directory / label for label in labels if (directory / label / CONFIG).is_file()]
        wanted = [directory / label for label in sweep.labels] if sweep.labels else runs
        if not runs or all((run / RESULTS).exists() for run in wanted):
            continue
        if not any(is_held(run) or _is_other(run, now, typed) for run in runs):
            return directory
    return None


def _is_other(run: Path, now: dict[str, Any], typed: list[str]) -> bool:
    """Whether a run is of another command, as far as its values say."""
    try:
        then = flatten(read_config(run))
    except UserError:
        return False  # which its job will say
    return differs(then, now, typed, ended=(run / RESULTS).exists())
