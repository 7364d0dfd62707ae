"""What Hydra composes from configs/: which keys and options there are, and which there are not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from cli.errors import UserError
from cli.overrides import Overrides, values_of
from common.rules import nearest
from model.rules import REMOVED

CONFIGS = Path(__file__).parent.parent / "configs"
# Groups of keyword arguments of Lightning's and Hydra's objects: new keys may be added.
OPEN_GROUPS = ("trainer", "callbacks", "logger", "hydra")


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved config as plain dictionaries, lists and scalars."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def composed(
    config_name: str, lines: Sequence[str] = (), *, with_hydra: bool = False
) -> DictConfig:
    """configs/<config_name>.yaml under overrides, whatever else Hydra is doing."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return compose(config_name, list(lines), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = before


def group_options(group: str) -> list[str]:
    """The names that `group=` takes; files with a leading underscore are for sharing only."""
    names = (path.stem for path in (CONFIGS / group).glob("*.yaml"))
    return sorted(name for name in names if not name.startswith("_"))


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


def check_overrides(overrides: Overrides, flags: Sequence[str], config_name: str) -> None:
    """Refuse what Hydra would take in silence or answer with a traceback."""
    if {"-m", "--multirun"} & set(flags) and "run_dir" in overrides.typed:
        raise UserError("run_dir: a sweep has a directory for each job; leave it out, or use name=")
    for override in overrides.parsed:
        _check_kind(override, config_name)


def _check_kind(override: Override, config_name: str) -> None:
    key, text = override.key_or_group, override.input_line
    if override.is_delete():
        raise UserError(f"{text}: a key cannot be deleted; set it, e.g. {key}=null")
    if override.package is not None:
        raise UserError(f"{text}: a package cannot be chosen; write {key}=…")
    if key.startswith("phases."):
        raise UserError(f"{text}: is set by another key; configs/phases/default.yaml says which")
    if _adds(override) and key.split(".")[0].split("/")[0] not in OPEN_GROUPS:
        keys = known_keys(config_name)
        if override.is_force_add() and key in keys:
            return
        hint = f"write {key}=…" if key in keys else f"no such key{_did_you_mean(key, keys)}"
        raise UserError(f"{text}: keys cannot be added here; {hint}")
    if _is_group(key) and not all(isinstance(v, str) and v[:1] != "_" for v in values_of(override)):
        options = ", ".join(group_options(key))
        raise UserError(f"{text}: {key} takes the name of one of: {options}")


def explain(error: Exception, overrides: Overrides, config_name: str) -> str:
    """What to say of an exception that Hydra or OmegaConf raised while composing."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        options = group_options(group)
        hint = _did_you_mean(option, options)
        return f"{group}={option}: no such option{hint}\n  options: {', '.join(options)}"
    if lines := _unknown_keys(overrides, config_name):
        return "\n       ".join(lines)
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    said = [line.strip() for line in f"{error}{cause}".splitlines() if line.strip()]
    return "\n  ".join(said[:2])


def _unknown_keys(overrides: Overrides, config_name: str) -> list[str]:
    """A line for each key that there is not with the groups that were chosen."""
    chosen = [
        f"{one.key_or_group}={value}"
        for one in overrides.parsed
        if _is_group(one.key_or_group)
        for value in values_of(one)[:1]
    ]
    there, always = known_keys(config_name, chosen), known_keys(config_name)
    hydras = composed(config_name, with_hydra=True).hydra
    there += flatten(OmegaConf.to_container(hydras, resolve=False), "hydra.")
    wrong = [one.key_or_group for one in overrides.parsed if not _adds(one)]
    lines = []
    for key in (key for key in dict.fromkeys(wrong) if key not in there):
        hint = f"no such key{_did_you_mean(key, there)}"
        if key in always:
            hint = "no such key with the groups chosen"
        if gone := REMOVED.get(key.removeprefix("model.")):
            hint = gone
        lines.append(f"{overrides.typed[key]}: {hint}")
    return lines


def _adds(override: Override) -> bool:
    return override.is_add() or override.is_force_add()


def _is_group(key: str) -> bool:
    return (CONFIGS / key).is_dir()


def _did_you_mean(word: str, options: Sequence[str]) -> str:
    near = nearest(word, options)
    return f"; did you mean {near}?" if near else ""
