"""`resume=`: which run goes on, and with which config.

The config is the interrupted run's, with what the user types today laid over it. It is read as
data: a `_target_` in it is never used, those come from the project's own files or from today's
command line.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cli.compose import CONFIGS, flatten, plain
from cli.errors import UserError
from cli.overrides import Overrides, values_of
from cli.rundir import CLAIM, RESULTS

# What may change half-way: how long a run trains, what it shows, who computes, and where the text
# lies, which itself is compared by content. On all else hangs what the weights, the data order and
# the optimizer's state mean.
FREE = (
    *("trainer.", "evaluation.", "callbacks.", "checkpoints.", "logger.", "compile"),
    *("rope.backend", "rope.fused_projection", "data.num_workers", "data.path"),
)
FIXED = ("trainer.accumulate_grad_batches",)
# They say where a run is or how it began, so they mean nothing for one that is named by its path.
MEANINGLESS = ("run_dir", "name", "init_from")


def resumed_config(today: DictConfig, overrides: Overrides, run: Path) -> dict[str, Any]:
    """The run's own config under today's changes. UserError where one of them cannot be made."""
    saved = OmegaConf.load(run / CLAIM / "config.yaml")
    assert isinstance(saved, DictConfig)
    then, now = flatten(plain(saved)), flatten(plain(today))
    config = trusted(plain(saved), plain(today))
    for key in typed_keys(overrides, now):
        fixed = key in FIXED or not key.startswith(FREE)
        if fixed and now[key] != then.get(key):
            raise UserError(
                f"{key}={now[key]}: the run began with {then.get(key)}, which cannot change "
                f"half-way; leave it out, or start a new run with init_from={run}"
            )
        _set(config, key, now[key])
    return config | {"phases": _phases(config, today), "run_dir": str(run), "resume": str(run)}


def _phases(config: dict[str, Any], today: DictConfig) -> Any:
    """Today's phases, with the values that `config` has for their keys."""
    phases = OmegaConf.to_container(today.phases, resolve=False)
    return OmegaConf.to_container(
        OmegaConf.create(config | {"phases": phases}).phases, resolve=True
    )


def check_meaningful(resume: str, overrides: Overrides) -> None:
    """Refuse keys that a run named by its path would ignore."""
    for override in overrides.of(*MEANINGLESS):
        raise UserError(f"{override}: has no effect with resume={resume}; leave it out")


def check_unfinished(run: Path, step: int, max_steps: int) -> None:
    """Refuse to go on with a run that has nothing left to do."""
    if step >= max_steps and (run / RESULTS).exists():
        raise UserError(
            f"resume={run}: already at step {step} of {max_steps}; go further with "
            f"trainer.max_steps={step * 2}"
        )


def trusted(saved: dict[str, Any], today: dict[str, Any]) -> dict[str, Any]:
    """A copy of `saved` whose every `_target_` is today's; an object unknown today is left out.

    Keys that the project has got since the run was made take today's values.
    """
    kept = {}
    for key, value in saved.items():
        known = today.get(key)
        if key == "_target_":
            kept[key] = known
        elif not isinstance(value, dict):
            kept[key] = value
        elif _is_object(known) or not _is_object(value):
            kept[key] = trusted(value, known if isinstance(known, dict) else {})
    new = {key: value for key, value in today.items() if key not in saved and not _is_object(value)}
    return kept | deepcopy(new)


def _is_object(node: Any) -> bool:
    return isinstance(node, dict) and "_target_" in node


def typed_keys(overrides: Overrides, now: dict[str, Any]) -> list[str]:
    """The leaves of today's config that the user set: by name, or by choosing a group's option."""
    keys: list[str] = []
    for override in overrides.parsed:
        name, value = override.key_or_group, values_of(override)[0]
        option = CONFIGS / name / f"{value}.yaml"
        if option.is_file():
            content = OmegaConf.to_container(OmegaConf.load(option), resolve=False)
            prefix = "" if name == "experiment" else f"{name}."
            names = [f"{prefix}{key}" for key in flatten(content)]
        else:
            names = [name, *(key for key in now if key.startswith(f"{name}."))]
        keys += [key for key in names if key in now and not isinstance(now[key], dict)]
    return [key for key in keys if key not in ("resume", *MEANINGLESS)]


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value
