"""`resume=`: which run goes on, and with which config.

The config is the interrupted run's, with what the user types today laid over it. It is read as
data: `cli.saved_config` says what of it is taken.
"""

import shlex
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cli.compose import flatten, keys_of_option, plain
from cli.errors import UserError
from cli.folders import option_file
from cli.overrides import Overrides, values_of
from cli.rundir import CONFIG
from cli.saved_config import OBJECTS, Taken, read_config, refusal
from common.rules import shown
from training.kept import RESULTS

# What may change half-way: how long a run trains, what it shows, who computes, and where the text
# lies, which itself is compared by content. On all else hangs what the weights, the data order and
# the optimizer's state mean.
FREE = (
    *("trainer.", "evaluation.", "callbacks.", "checkpoints.", "logger.", "compile", "figures"),
    *("rope.backend", "rope.fused_projection", "data.num_workers", "data.path"),
)
SOURCES = "data.sources"  # corpora and paths
FIXED = ("trainer.accumulate_grad_batches",)
# They say where a run is or how it began, so they mean nothing for one that is named by its path.
MEANINGLESS = ("run_dir", "name", "init_from")


def resumed_config(today: DictConfig, overrides: Overrides, run: Path) -> dict[str, Any]:
    """The run's own config under today's changes. UserError where one of them cannot be made."""
    saved, own = read_config(run), plain(today)
    typed = typed_keys(overrides, own)
    try:
        taken = Taken(saved, own, {*typed, *overrides.typed})
    except ValueError as error:
        raise refusal(run, str(error)) from error
    if taken.left_out:
        print(f"resume={run}: left out {', '.join(taken.left_out)}; type it again to have it")
    then, now, config = flatten(saved), flatten(own), taken.config
    for key in typed:
        if key in (SOURCES, "data.tokenizer") and _same_places(now[key], then.get(key)):
            continue  # the run's own are absolute
        if is_fixed(key) and now[key] != then.get(key):
            raise UserError(
                f"{key}={now[key]}: the run began with {then.get(key)}, which cannot change "
                f"half-way; leave it out, or start a new run with {_quoted('init_from', run)}"
            )
        _set(config, key, now[key])
    return config | {"phases": _phases(config, today), "run_dir": str(run), "resume": str(run)}


def _phases(config: dict[str, Any], today: DictConfig) -> Any:
    """Today's phases, with the values that `config` has for their keys."""
    phases = OmegaConf.to_container(today.phases, resolve=False)
    return OmegaConf.to_container(
        OmegaConf.create(config | {"phases": phases}).phases, resolve=True
    )


def is_fixed(key: str) -> bool:
    """Whether a key of the config must be, half-way, what it was when the run began."""
    return key in FIXED or not key.startswith(FREE)


def differs(then: dict[str, Any], now: dict[str, Any], typed: list[str], *, ended: bool) -> bool:
    """Whether the flat config of a run says that it is not what was `typed` now.

    Of a run that has `ended` nothing may differ; what goes on may change what is free.
    """
    asked = [key for key in typed if ended or is_fixed(key)]
    places = ("data.path", "data.tokenizer", SOURCES)
    return any(now[key] != then.get(key) for key in asked if key not in places) or any(
        not _same_places(now[key], then.get(key)) for key in places if key in asked
    )


def _same_places(typed: Any, saved: Any) -> bool:
    """Whether a path, or a list of them, that was typed is what a run has saved."""
    if not isinstance(typed, list) or not isinstance(saved, list):
        return _same_place(typed, saved)
    return len(typed) == len(saved) and all(map(_same_place, typed, saved))


def _same_place(typed: Any, saved: Any) -> bool:
    """Whether a path that was typed is the one that a run has saved, which is absolute."""
    if typed == saved or str(saved).startswith(f"{typed}@"):  # a data set and its revision
        return True
    return bool(typed) and str(saved).endswith(str(typed).lstrip("~./"))


def check_meaningful(resume: str, overrides: Overrides) -> None:
    """Refuse keys that a run named by its path would ignore."""
    for override in overrides.of(*MEANINGLESS):
        raise UserError(f"{override}: has no effect with resume={resume}; leave it out")


def check_whole(
    run: Path, config: dict[str, Any], final: dict[str, Any], checkpoint: dict[str, Any]
) -> None:
    """Refuse a config that was cut or changed: the checkpoint holds the run's own as well.

    What may change half-way is said, where the file and the checkpoint differ.

    `config` is the resumed run's; `final` the one that its phases end with, which a checkpoint
    may have; `checkpoint` the checkpoint's.
    """
    saved, now, last = read_config(run), flatten(config), flatten(final)
    if missing := [group for group in checkpoint if group in config and group not in saved]:
        raise refusal(run, f"{missing[0]} is missing, the file was cut")
    there = flatten(saved)
    for key, value in flatten(checkpoint).items():
        if key not in now or isinstance(value, dict) or _is_its_own(key):
            continue
        if key not in there:
            raise refusal(run, f"{key} is missing, the file was cut")
        if is_fixed(key) and value not in (now[key], last[key]):
            raise refusal(run, f"{key}={now[key]}, which is {value} in the checkpoint")
        if not is_fixed(key) and there[key] != value:  # by hand, or by damage: may be, but is said
            here = f"{key}={shown(there[key])} in {CONFIG}"
            print(f"resume={run}: {here}, {shown(value)} in the checkpoint")


def check_text(run: Path, overrides: Overrides, checkpoint: dict[str, Any]) -> None:
    """Refuse a text that the run's file names, its `checkpoint`'s config does not and nobody typed.

    It may be any folder of the disk, all of which would be read before it is found another.
    """
    there, then = (config["data"].get("path") for config in (read_config(run), checkpoint))
    if there != then and "data.path" not in overrides.typed:
        here = f"data.path={shown(there)}, which is {shown(then)} in the checkpoint"
        raise refusal(run, f"{here} (type data.path= for a text that has moved)")


def _is_its_own(key: str) -> bool:
    """Whether a key says nothing of how a run trains, or other rules are for it."""
    return key.split(".")[0] in ("phases", "resume", *OBJECTS, *MEANINGLESS)


def check_unfinished(run: Path, step: int, *, ended: bool, owes: bool, max_steps: int) -> None:
    """Refuse to go on with a run that has nothing left to do, or cannot do what is left.

    `ended`: its training has; `owes`: it has not validated its last step.
    """
    further = f"go further with trainer.max_steps={max(step, max_steps) * 2}"
    if step > max_steps or (ended and (run / RESULTS).exists()):
        raise UserError(f"resume={run}: already at step {step} of {max_steps}; {further}")
    if step >= max_steps and owes:
        raise UserError(
            f"trainer.max_steps={max_steps}: the run is at step {step}, which it has not "
            f"validated; {further}"
        )


def typed_keys(overrides: Overrides, now: dict[str, Any]) -> list[str]:
    """The leaves of today's config that the user set: by name, or by choosing a group's option."""
    now = flatten(now)
    keys: list[str] = []
    for override in overrides.parsed:
        name, value = override.key_or_group, values_of(override)[0]
        options = [str(one) for one in (value if isinstance(value, list) else [value])]
        if options and option_file(name, options[0]):
            for option in options:
                keys += keys_of_option(name, option)
        else:
            keys += [name, *(key for key in now if key.startswith(f"{name}."))]
    known = [key for key in keys if key in now and not isinstance(now[key], dict)]
    return [key for key in known if key not in ("resume", *MEANINGLESS)]


def _quoted(key: str, path: Path) -> str:
    """`key=path` as it is typed in a shell."""
    return shlex.quote(f"{key}={path}")


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value
