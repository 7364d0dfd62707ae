"""From the composed config to the one that will run: resumed where asked, checked as a whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from cli.check import check_keys, check_run, check_values
from cli.compose import flatten, plain
from cli.errors import UserError, user_errors
from cli.names import default_name
from cli.overrides import Overrides
from cli.resume import (
    check_meaningful,
    check_text,
    check_unfinished,
    check_whole,
    differs,
    resumed_config,
    typed_keys,
)
from cli.rundir import CLAIM, check_free, hold_run
from cli.saved_config import read_config
from cli.unfinished import find_run, find_unfinished, same_label
from common.lock import is_held
from common.terminal import say
from training.kept import RESULTS, candidates


class Plan(NamedTuple):
    """What will run. `run` is None for a new one; `checkpoint` where an old one goes on from.

    `ended`: it is a job of a sweep that goes on and has been there to its end, so that nothing is
    left to do.
    """

    config: dict[str, Any]
    run: Path | None
    checkpoint: Path | None
    ended: bool = False


def plan_run(composed: DictConfig, overrides: Overrides) -> Plan:
    """The config of today's run, complete and right. UserError with every problem otherwise.

    A run that goes on is held from here on (`common.lock`), before anything of it is read.
    """
    config = plain(composed)
    resume = config["resume"]
    if isinstance(resume, str) and resume != "auto":  # a run answers for its own config
        check_meaningful(resume, overrides)
        run, checkpoint = find_run(resume)
        hold_run(run, f"resume={resume}")
        return _resumed(composed, overrides, run, checkpoint)
    if isinstance(config["init_from"], str):
        if resume == "auto" and (plan := _going_on(composed, overrides, config)):
            return plan
        config = _continued(config, overrides)
    check_values(config, overrides)
    if resume is None:
        check_free(config["run_dir"])
    check_run(config, overrides)
    config["name"] = _name(config, overrides)
    if resume is None:
        return Plan(config, None, None)
    return _unfinished(composed, overrides, config) or _begun(config, overrides.directory)


def _name(config: dict[str, Any], overrides: Overrides) -> str:
    """Of the run; all jobs of a sweep have the one that its directory has."""
    if overrides.directory is not None:
        return config["name"] or overrides.directory.parts[-3]
    return config["name"] or default_name(config, overrides)


def _going_on(composed: DictConfig, overrides: Overrides, config: dict[str, Any]) -> Plan | None:
    """`resume=auto` with `init_from=`: a run that goes on does not need what it began with.

    So that may have moved, or be another by now. `config` has yet to get the model of that run.
    """
    check_keys(config | {"init_from": None})
    return _unfinished(composed, overrides, config | {"name": _name(config, overrides)})


def _unfinished(composed: DictConfig, overrides: Overrides, config: dict[str, Any]) -> Plan | None:
    """`resume=auto`: an unfinished run that nobody trains, if there is one with a checkpoint."""
    run_dir, name, job = config["run_dir"], config["name"], overrides.directory
    asked = "resume=auto" + (f" run_dir={run_dir}" if run_dir else "")
    others: list[Path] = []
    is_other = _of_another_job(composed, overrides)
    if job and (job / RESULTS).exists() and not is_other(job):
        return Plan(config, job, None, ended=True)
    runs = same_label(job) if job else None
    while found := find_unfinished(run_dir, name, is_other, runs):
        try:
            hold_run(found[0], asked)
        except UserError:
            if run_dir or found[0] in others or not is_held(found[0]):
                raise
            others.append(found[0])  # somebody was faster: it is passed over now
            continue
        return _resumed(composed, overrides, *found)
    return None


def _begun(config: dict[str, Any], job: Path | None) -> Plan:
    """`resume=auto` without a checkpoint to go on from: a run from its first step on."""
    run_dir = config["run_dir"]
    if run_dir is not None and (Path(run_dir) / CLAIM).exists():
        if (Path(run_dir) / RESULTS).exists():
            check_free(run_dir)
        hold_run(Path(run_dir), f"resume=auto run_dir={run_dir}")
        return Plan(config, Path(run_dir), None)  # it ended before its first checkpoint
    if job and (job / CLAIM).exists() and not (job / RESULTS).exists() and not _began(job):
        hold_run(job, "resume=auto")
        return Plan(config, job, None)  # as well
    say(f"resume=auto: no unfinished run of {run_dir or job or config['name']}; a new one begins")
    return Plan(config, None, None)


def _began(run: Path) -> bool:
    return bool(candidates(run / "checkpoints"))


def _of_another_job(composed: DictConfig, overrides: Overrides) -> Callable[[Path], bool]:
    """Whether a run is not this job's: it began with other values, in a sweep, or cannot tell."""
    own = plain(composed)
    now, typed = flatten(own), typed_keys(overrides, own)

    def is_other(run: Path) -> bool:
        if not _began(run):
            return False  # nor one to go on with
        try:
            then = flatten(read_config(run))
        except UserError as error:
            why = str(error).removeprefix("resume=").rpartition("; ")[0]
            print(f"resume=auto: {why}; looking for another run")
            return True
        ended = (run / RESULTS).exists()
        return overrides.directory is not None and differs(then, now, typed, ended=ended)

    return is_other


def _resumed(composed: DictConfig, overrides: Overrides, run: Path, checkpoint: Path) -> Plan:
    config = resumed_config(composed, overrides, run)
    check_values(config, overrides)
    check_run(config, overrides)
    from training.callbacks.ending import has_ended
    from training.callbacks.validation import owes_validation
    from training.checkpoint_files import read_checkpoint
    from training.phases import final_config

    with user_errors():
        contents = read_checkpoint(checkpoint, "resume")
    began = contents["ropewalk"]["config"]
    check_whole(run, config, final_config(config), began)
    check_text(run, overrides, began)
    ended, owes = has_ended(contents, config), owes_validation(contents)
    max_steps = config["trainer"]["max_steps"]
    check_unfinished(run, contents["global_step"], ended=ended, owes=owes, max_steps=max_steps)
    return Plan(config, run, checkpoint)


def _continued(config: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """`init_from=`: the model of that run, but for what was typed, which is said."""
    check_keys(config)  # before torch is loaded
    from training.init_from import continued_config

    with user_errors():
        config, lines = continued_config(config, set(typed_keys(overrides, config)))
    for line in lines:
        say(line)
    return config
