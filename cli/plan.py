"""From the composed config to the one that will run: resumed where asked, checked as a whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import extras
from cli.check import check_run, check_values
from cli.compose import flatten, plain
from cli.errors import UserError, refuse, user_errors
from cli.keys import TRAIN, key_problems
from cli.overrides import Overrides
from cli.resume import (
    check_meaningful,
    check_unfinished,
    check_whole,
    is_fixed,
    resumed_config,
    typed_keys,
)
from cli.rundir import CLAIM, RESULTS, check_free, hold_run
from cli.saved_config import read_config
from cli.unfinished import find_run, find_unfinished
from common.lock import is_held
from model.config import RULES as MODEL


class Plan(NamedTuple):
    """What will run. `run` is None for a new one; `checkpoint` where an old one goes on from."""

    config: dict[str, Any]
    run: Path | None
    checkpoint: Path | None


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
        config = _continued(config, overrides)
    check_values(config, overrides)
    if resume is None:
        check_free(config["run_dir"])
    check_run(config, overrides)
    config["name"] = config["name"] or _default_name(config)
    if resume is None:
        return Plan(config, None, None)
    return _resumed_if_any(composed, overrides, config)


def _resumed_if_any(composed: DictConfig, overrides: Overrides, config: dict[str, Any]) -> Plan:
    """`resume=auto`: go on with an unfinished run that nobody trains, or begin one."""
    run_dir, name = config["run_dir"], config["name"]
    asked = "resume=auto" + (f" run_dir={run_dir}" if run_dir else "")
    others: list[Path] = []
    is_other = _of_another_job(composed, overrides)
    while found := find_unfinished(run_dir, name, is_other):
        try:
            hold_run(found[0], asked)
        except UserError:
            if run_dir or found[0] in others or not is_held(found[0]):
                raise
            others.append(found[0])  # somebody was faster: it is passed over now
            continue
        return _resumed(composed, overrides, *found)
    if run_dir is not None and (Path(run_dir) / CLAIM).exists():
        if (Path(run_dir) / RESULTS).exists():
            check_free(run_dir)
        hold_run(Path(run_dir), asked)
        return Plan(config, Path(run_dir), None)  # it ended before its first checkpoint
    print(f"resume=auto: no unfinished run of {run_dir or name}; a new one begins")
    return Plan(config, None, None)


def _of_another_job(composed: DictConfig, overrides: Overrides) -> Callable[[Path], bool]:
    """In a sweep, whether a run began with other values than this job's: it is another one's."""
    own = plain(composed)
    now, typed = flatten(own), typed_keys(overrides, own)
    swept = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN

    def is_other(run: Path) -> bool:
        if not swept:
            return False
        then = flatten(read_config(run))
        return any(is_fixed(key) and now[key] != then.get(key) for key in typed)

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
    check_whole(run, config, final_config(config), contents["ropewalk"]["config"])
    ended, owes = has_ended(contents, config), owes_validation(contents)
    max_steps = config["trainer"]["max_steps"]
    check_unfinished(run, contents["global_step"], ended=ended, owes=owes, max_steps=max_steps)
    return Plan(config, run, checkpoint)


def _continued(config: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """`init_from=`: the model of that run, but for what was typed, which is said."""
    refuse(key_problems(config, TRAIN | extras.RULES | MODEL))  # before torch is loaded
    from training.init_from import continued_config

    with user_errors():
        config, lines = continued_config(config, set(typed_keys(overrides, config)))
    for line in lines:
        print(line)
    return config


def _default_name(config: dict[str, Any]) -> str:
    """The corpus and the backend, so that two backends are two curves."""
    from kernels import resolve_backend
    from training import pick_device

    with user_errors():
        device = pick_device(config["trainer"]["accelerator"])
        backend = resolve_backend(config["rope"]["backend"], device)
    position = config["position"]  # without a rotation no backend is at work
    return f"{config['data']['corpus']}-{backend if position == 'rope' else position}"
