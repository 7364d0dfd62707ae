"""The config that a run's directory holds: read as plain data, taken into today's config.

Nothing in it is trusted: whoever made the directory wrote it. What is instantiated comes from the
project's own files or from today's command line, with plain values of the saved config.
"""

import shlex
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader  # the numbers of OmegaConf, which wrote the file

from cli.errors import UserError
from cli.folders import CONFIGS
from cli.rundir import CONFIG
from common.plain import MAGIC, leads_out, names_code, plain_problem
from common.rules import among, shown
from model.rules import REMOVED

MOST_BYTES = 2**18  # a config of ours has a hundredth of it
# Groups of objects by name, arguments and all; `phases` are today's, made of other keys.
OBJECTS = ("callbacks", "logger")


def read_config(run: Path) -> dict[str, Any]:
    """`.hydra/config.yaml` of `run`; UserError with the key where it is not whole, plain data."""
    path = run / CONFIG
    try:
        if path.stat().st_size > MOST_BYTES:
            raise refusal(run, f"has more than {MOST_BYTES} bytes")
        config = yaml.load(path.read_bytes(), _loader())
    except OSError as error:
        raise refusal(run, f"cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise refusal(run, "is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise refusal(run, f"is damaged ({_first_line(error)})") from error
    if not isinstance(config, dict):
        raise refusal(run, "is empty, or no mapping of keys")
    if problem := plain_problem(config):
        raise refusal(run, problem)
    return config


def refusal(run: Path, why: str) -> UserError:
    """What to say of a config that is not taken."""
    anew = shlex.quote(f"init_from={run}")
    return UserError(
        f"resume={run}: {CONFIG}: {why}; put the run's own back, or start anew with {anew}"
    )


class Taken:
    """The values of a saved config in today's: `config`, and the keys that were `left_out`."""

    def __init__(self, saved: dict[str, Any], today: dict[str, Any], typed: set[str]) -> None:
        """`typed`: the keys and groups that the user sets today, for which `saved` is not asked.

        ValueError where a key does not exist, or holds what may not come with a run.
        """
        self.typed, self.left_out = typed, list[str]()
        if unknown := sorted(saved.keys() - today.keys()):
            raise ValueError(f"{unknown[0]}: there is no such key; {among(unknown[0], today)}")
        self.config = {
            group: self._group(deepcopy(saved.get(group, own)), own, group)
            for group, own in deepcopy(today).items()
        }

    def _group(self, saved: Any, own: Any, group: str) -> Any:
        if group == "phases":  # made of today's classes and other keys
            return own
        if isinstance(own, dict) != isinstance(saved, dict):
            raise ValueError(f"{group}={shown(saved)}: must {_be_a_group(own)}")
        if group in OBJECTS:
            return self._objects(saved, own, group)
        if group == "trainer":
            return self._arguments(saved, own, group)
        return self._settings(saved, own, group) if isinstance(own, dict) else saved

    def _objects(self, saved: dict[str, Any], own: dict[str, Any], group: str) -> dict[str, Any]:
        """Those of `saved` that are there today as well, and those that were typed today.

        Whoever chooses an option of the group today has its objects, and no others.
        """
        if group in self.typed:
            return own
        kept: dict[str, Any] = {}
        for name, value in saved.items():
            key = f"{group}.{name}"
            if value is None:
                kept[name] = None
            elif isinstance(value, dict) and isinstance(own.get(name), dict):
                kept[name] = self._arguments(value, own[name], key)
            else:
                self.left_out.append(key)
        typed = [name for name in own if any(k.startswith(f"{group}.{name}.") for k in self.typed)]
        return {name: own[name] for name in typed} | kept

    def _arguments(self, saved: dict[str, Any], own: dict[str, Any], key: str) -> dict[str, Any]:
        """Today's object with the plain arguments of `saved`, none of which leads elsewhere."""
        if f"{key}._target_" in self.typed:  # whose class is the user's, its arguments are as well
            self.left_out += [f"{key}.{name}" for name in saved if name not in own]
            return own
        taken = dict(own)
        for name, value in saved.items():
            inner = f"{key}.{name}"
            if name == "_target_" or inner in self.typed:
                continue
            if name in MAGIC or names_code(value):
                self.left_out.append(inner)
            elif leads_out(value):
                raise ValueError(
                    f"{inner}={shown(value)}: must stay inside the run's directory; give {inner}= "
                    "on the command line"
                )
            else:
                taken[name] = value
        return taken

    def _settings(self, saved: dict[str, Any], own: dict[str, Any], group: str) -> dict[str, Any]:
        """The values of `saved` in a group that makes no object; what is new takes today's."""
        known = {*own, *_keys_of_options(group), *REMOVED}
        for name, value in saved.items():
            key = f"{group}.{name}"
            if name not in known:
                raise ValueError(
                    f"{key}: there is no such key; {among(name, sorted(known), f'{group}.')}"
                )
            if names_code(value):
                raise ValueError(f"{key}: names a class, which no setting does")
            if isinstance(value, dict) and not isinstance(own.get(name), dict):
                raise ValueError(f"{key}: must {_be_a_group(own.get(name))}")
        return own | saved


def _be_a_group(own: object) -> str:
    return "be a group of keys" if isinstance(own, dict) else "be a value, not a group of keys"


@cache
def _keys_of_options(group: str) -> frozenset[str]:
    """The keys that one option or another of the project's has of a group."""
    files = [file for file in (CONFIGS / group).glob("*.yaml") if file.name[0] != "_"]
    options = [OmegaConf.load(file) for file in files]
    return frozenset(str(key) for option in options for key in option) - {"defaults"}


@cache
def _loader() -> type[yaml.SafeLoader]:
    """OmegaConf's reader without what makes other things than plain data."""
    ours: type[yaml.SafeLoader] = get_yaml_loader()

    class Plain(ours):
        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
                raise yaml.YAMLError("anchors and aliases are not taken")
            if event.tag is not None:
                raise yaml.YAMLError(f"the tag {event.tag} is not taken")
            return super().compose_node(parent, index)

        def flatten_mapping(self, node: Any) -> None:
            """No mapping is merged into another, so that `<<` is a key like any and refused."""

    return Plain


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
