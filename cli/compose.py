"""What Hydra composes: which keys and options there are, and which there are not."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from cli.errors import UserError, refuse
from cli.folders import CONFIGS, group_options, is_group, option_file, users_folder
from cli.overrides import PATHS, Overrides, quoted, values_of
from common.rules import nearest
from model.rules import REMOVED
from training.trainer_rules import REFUSED as LIGHTNINGS

SEVERAL = ("logger",)  # groups that take a list of options
# Groups of keyword arguments of Lightning's and Hydra's objects: new keys may be added.
OPEN_GROUPS = ("trainer", "callbacks", "logger", "hydra")


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved config as plain dictionaries, lists and scalars; `~` is the user's home."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): _at_home(str(key), value) for key, value in container.items()}


def _at_home(key: str, value: Any) -> Any:
    """A shell leaves `~` as it is in `key=~/texts`: a path begins with the directory it means."""
    if key == "data" and value is not None:
        return {inner: _at_home(f"data.{inner}", of_it) for inner, of_it in value.items()}
    if key == "data.sources" and isinstance(value, list):
        return [_at_home("data.path", one) for one in value]
    if key not in PATHS or not isinstance(value, str):
        return value
    return os.path.expanduser(value)


def composed(
    config_name: str, lines: Sequence[str] = (), *, with_hydra: bool = False
) -> DictConfig:
    """configs/<config_name>.yaml under overrides, whatever else Hydra is doing.

    Options of the user's folder are there, as `--config-dir` has them there.
    """
    folder = users_folder()
    added = [f"hydra.searchpath=[{quoted(f'file://{folder}')}]"] if folder else []
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return compose(config_name, [*added, *lines], return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = before


def known_keys(config_name: str, lines: Sequence[str] = ()) -> list[str]:
    """Every key of the command's config, dotted, groups included."""
    return sorted(flatten(OmegaConf.to_container(composed(config_name, lines), resolve=False)))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"model.d_model": 96, …}` of nested dictionaries: leaves, and inner nodes whole."""
    flat = {}
    for key, value in config.items():
        flat[f"{prefix}{key}"] = value
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
    return flat


def keys_of_option(
    group: str, option: str, within: frozenset[tuple[str, str]] = frozenset()
) -> list[str]:
    """The keys that `group=option` chooses, those of the options that it builds on included.

    `within`: the options that build on this one. UserError where it is one of them itself.
    """
    file = option_file(group, option)
    if file is None:
        return []  # Hydra says so
    if (group, option) in within:
        raise UserError(f"{file}: builds on itself; take {group}={option} out of its defaults")
    within |= {(group, option)}
    content = OmegaConf.to_container(OmegaConf.load(file)) or {}
    assert isinstance(content, dict)
    keys: list[str] = []
    for base in content.pop("defaults", []):
        if isinstance(base, dict):  # of another group: {"override /model": "mini"}
            for other, name in base.items():
                keys += keys_of_option(_group_of(other), str(name), within)
        elif not base.startswith("_"):  # _self_, or what all options share and none chooses
            keys += keys_of_option(group, base, within)
    return keys + list(flatten(content, "" if group == "experiment" else f"{group}."))


def _group_of(entry: str) -> str:
    """The group that an entry of a defaults list means, `override /model`."""
    return entry.removeprefix("override ").strip("/")


def check_users_options(overrides: Overrides, config_name: str) -> None:
    """UserError for a key in a chosen option of the user's folder that nothing would read."""
    chosen = [(o.key_or_group, str(value)) for o in overrides.parsed for value in values_of(o)]
    folder = users_folder()
    files = {(group, name): option_file(group, name) for group, name in chosen if is_group(group)}
    of_user = {one: file for one, file in files.items() if file and folder in file.parents}
    if not of_user:
        return
    known = [*known_keys(config_name), *_keys_of_all_options()]
    refuse(
        [
            f"{file}: {key}: no such key{_did_you_mean(key, known)}"
            for (group, option), file in of_user.items()
            for key in keys_of_option(group, option)
            if key not in known and key.split(".")[0] not in ("trainer", "callbacks", "logger")
        ]
    )


def _keys_of_all_options() -> list[str]:
    """The keys that one option or another of the project's own has."""
    options = [(file.parent.name, file.stem) for file in CONFIGS.glob("*/*.yaml")]
    return [key for group, name in options for key in keys_of_option(group, name)]


def check_overrides(overrides: Overrides, flags: Sequence[str], config_name: str) -> None:
    """Refuse what Hydra would take in silence or answer with a traceback."""
    swept = {"-m", "--multirun"} & set(flags)
    if swept and "run_dir" in overrides.typed:
        raise UserError("run_dir: a sweep has a directory for each job; leave it out, or use name=")
    for override in overrides.parsed:
        _check_kind(override, config_name)
        if override.is_sweep_override() and not swept:
            key, _, value = str(override.input_line).partition("=")
            raise UserError(
                f"{key}={value}: several values need -m, one run each; a list is {key}=[{value}]"
            )
    for line in [] if swept else overrides.of("hydra", "hydra/sweeper", "hydra/launcher"):
        raise UserError(f"{line}: has no effect without -m; add it, or leave this out")
    basic = not {"hydra/sweeper", "hydra/launcher"} & overrides.typed.keys()
    for line in overrides.of("hydra.sweeper.max_batch_size") if basic else []:
        raise UserError(f"{line}: has no effect on jobs that run one by one; leave it out")


def _check_kind(override: Override, config_name: str) -> None:
    key, text = override.key_or_group, str(override.input_line)
    if override.is_delete():
        raise UserError(f"{text}: a key cannot be deleted; set it, e.g. {key}=null")
    if override.package is not None:
        raise UserError(f"{text}: a package cannot be chosen; write {key}=…")
    if key.startswith("phases."):
        raise UserError(f"{text}: is set by another key; configs/phases/default.yaml says which")
    if re.match(r"hydra\b", key):
        _check_hydras(key, text)
    if _adds(override) and is_group(key):
        raise UserError(f"{text}: is there already; write {key}=…")
    if _adds(override) and key.split(".")[0].split("/")[0] not in OPEN_GROUPS:
        keys = known_keys(config_name)
        hint = f"write {key}=…" if key in keys else f"no such key{_did_you_mean(key, keys)}"
        raise UserError(f"{text}: keys cannot be added here; {hint}")
    if is_group(key) and not all(_may_be_options(key, value) for value in values_of(override)):
        options = ", ".join(group_options(key))
        several = f", or several: {key}=[{','.join(group_options(key)[:2])}]"
        how = several if key in SEVERAL else ""
        raise UserError(f"{text}: {key} takes the name of one of: {options}{how}")


def _check_hydras(key: str, text: str) -> None:
    """Of Hydra's own settings, those of sweeps; the others have no effect here."""
    groups = ("hydra/sweeper", "hydra/launcher")
    if key not in groups and not key.startswith(("hydra.sweeper.", "hydra.launcher.")):
        raise UserError(
            f"{text}: has no effect here; a run's directory is run_dir=, and of Hydra's keys there "
            "are hydra/sweeper, hydra/launcher and what is below them"
        )


def explain(error: Exception, overrides: Overrides, config_name: str) -> str:
    """What to say of an exception that Hydra or OmegaConf raised while composing."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = group_options(group)
        hint = _did_you_mean(option, options)
        there = f"\n  options: {', '.join(options)}" if options else ""  # Hydra's own groups
        return f"{group}={option}: no such option{hint}{there}"
    if lines := _unknown_keys(overrides, config_name):
        return "\n       ".join(lines)
    return _in_our_form(error, overrides)


def _in_our_form(error: Exception, overrides: Overrides) -> str:
    """What Hydra says itself, behind the override that it is about."""
    said = f"{error} {error.__cause__ or ''}"
    about = re.search(r"override '?([^'= ]+)", said)
    key = about[1] if about else ""
    typed = overrides.typed.get(key.lstrip("+"))
    if typed and (inner := re.search(r"Key '([^']+)' is not in struct", said)):
        return f"{typed}: there is no key {inner[1]} in {key}; --help shows those that are"
    if typed and "Cannot merge" in said:
        return f"{typed}: {key} is a group of keys; set them one by one, {key}.KEY=…"
    if "nterpolation" in said:
        typed = next((text for text in overrides.typed.values() if "${" in text), None)
    if typed:
        return f"{typed}: {said.splitlines()[0].strip()}; --help shows what there is"
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    lines = [line.strip() for line in f"{error}{cause}".splitlines() if line.strip()]
    return "\n  ".join(lines[:2])


def _unknown_keys(overrides: Overrides, config_name: str) -> list[str]:
    """A line for each key that there is not with the groups that were chosen."""
    hydras = composed(config_name, with_hydra=True).hydra
    chosen = [
        f"{one.key_or_group}={value}"
        for one in overrides.parsed
        if one.key_or_group in hydras.runtime.choices  # the groups that this command has
        for value in values_of(one)[:1]
    ]
    there, always = known_keys(config_name, chosen), known_keys(config_name)
    there += flatten(OmegaConf.to_container(hydras, resolve=False), "hydra.")
    there += map(str, hydras.runtime.choices)
    wrong = [one.key_or_group for one in overrides.parsed if not _adds(one)]
    lines = []
    for key in (key for key in dict.fromkeys(wrong) if key not in there):
        hint = f"no such key{_did_you_mean(key, there)}"
        if key in always:
            hint = "no such key with the groups chosen"
        if (name := key.removeprefix("trainer.")) in LIGHTNINGS and name != key:
            hint = f"cannot be set here; {LIGHTNINGS[name]}"
        if gone := REMOVED.get(key.removeprefix("model.")):
            hint = gone
        lines.append(f"{overrides.typed[key]}: {hint}")
    return lines


def _may_be_options(group: str, value: object) -> bool:
    """A name of an option, or where there may be several, a list of them."""
    if isinstance(value, list) and group in SEVERAL:
        return bool(value) and all(map(_may_be_option, value))
    return _may_be_option(value)


def _may_be_option(value: object) -> bool:
    """Not a file for sharing, and no interpolation, for which there is no config yet."""
    named = isinstance(value, str) and value.lower() != "null"  # a word yet, where it is swept
    return named and str(value)[:1] != "_" and "${" not in str(value)


def _adds(override: Override) -> bool:
    return override.is_add() or override.is_force_add()


def _did_you_mean(word: str, options: Sequence[str]) -> str:
    near = nearest(word, options)
    return f"; did you mean {near}?" if near else ""
