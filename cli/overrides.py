"""The user's overrides: quoting what is verbatim, refusing what cannot be, explaining failures."""

import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from cli.errors import UserError, did_you_mean

# Text that a person types as it is: spaces, commas, brackets and all.
VERBATIM = ("prompt", "checkpoint", "data.path", "run_dir", "resume", "init_from", "output_dir")
# Lists of objects that are made from their own keywords, so that new keys have a meaning there.
OPEN_GROUPS = ("trainer", "callbacks", "logger", "hydra")


def quote_verbatim(argument: str) -> str:
    """`prompt=To be, or not` in quotes for Hydra's grammar; null and quoted values stay."""
    key, equals, value = argument.partition("=")
    if key not in VERBATIM or not equals or value == "null":
        return argument
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # a quote, and the backslashes before it
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{key}='{escaped.replace('${', chr(92) + '${')}'"


def check_overrides(arguments: list[str], configs: Path, config_name: str) -> None:
    """Refuse what Hydra would take in silence or answer with a traceback."""
    if {"-m", "--multirun"} & set(arguments) and any(a.startswith("run_dir=") for a in arguments):
        raise UserError("run_dir: a sweep has a directory for each job; leave it out, or use name=")
    for override in _parse(arguments):
        key, text = override.key_or_group, override.input_line
        if override.is_delete():
            raise UserError(f"{text}: a key cannot be deleted; set it, e.g. {key}=null")
        if override.is_add() and key.split(".")[0].split("/")[0] not in OPEN_GROUPS:
            keys = known_keys(configs, config_name)
            hint = f"write {key}=…" if key in keys else f"no such key{did_you_mean(key, keys)}"
            raise UserError(f"{text}: keys cannot be added here; {hint}")
        named = override.is_sweep_override() or isinstance(override.value(), str)
        shared = named and not override.is_sweep_override() and override.value().startswith("_")
        if (configs / key).is_dir() and (shared or not named):
            options = ", ".join(group_options(configs, key))
            raise UserError(f"{text}: {key} takes the name of one of: {options}")


def explain(error: Exception, arguments: list[str], configs: Path, config_name: str) -> str:
    """One or two lines for an exception that Hydra or OmegaConf raised while composing."""
    message = str(error)
    if found := re.search(r"Could not override '([^']+)'", message):
        key = found[1]
        keys = known_keys(configs, config_name)
        hint = " with the groups chosen" if key in keys else did_you_mean(key, keys)
        return f"{_typed(key, arguments)}: no such key{hint}"
    if found := re.search(r"Could not find '([^']+)'", message):
        group, _, option = found[1].rpartition("/")
        options = group_options(configs, group)
        hint = did_you_mean(option, options)
        return f"{group}={option}: no such option{hint}\n  options: {', '.join(options)}"
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    lines = [line.strip() for line in f"{message}{cause}".splitlines() if line.strip()]
    return "\n  ".join(lines[:2])


def group_options(configs: Path, group: str) -> list[str]:
    """The names that `group=` takes; files with a leading underscore are for sharing only."""
    names = (path.stem for path in (configs / group).glob("*.yaml"))
    return sorted(name for name in names if not name.startswith("_"))


def known_keys(configs: Path, config_name: str) -> list[str]:
    """Every key of the command's config, dotted, groups included."""
    return sorted(flatten(compose_plain(configs, config_name)))


def compose_plain(configs: Path, config_name: str) -> DictConfig:
    """The command's config with no overrides at all."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(configs), version_base="1.3"):
            return compose(config_name)
    finally:
        GlobalHydra.instance().hydra = before


def flatten(config: DictConfig | dict, prefix: str = "") -> dict[str, Any]:
    """`{"model.d_model": 96, …}`: dotted keys, inner nodes too (with their whole value)."""
    flat = {}
    node = config.items_ex(resolve=False) if isinstance(config, DictConfig) else config.items()
    for key, value in node:
        flat[f"{prefix}{key}"] = value
        if isinstance(value, (DictConfig, dict)):
            flat |= flatten(value, f"{prefix}{key}.")
    return flat


def _parse(arguments: list[str]) -> list[Override]:
    parsed = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument.startswith("-") or (before.startswith("-") and "=" not in argument):
            continue  # a flag or its value; Hydra's argparse speaks for itself
        if "=" not in argument and not argument.startswith("~"):
            raise UserError(f"{argument}: must be key=value without spaces around the =")
        try:
            parsed += OverridesParser.create().parse_overrides([argument])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            key, _, value = argument.partition("=")
            quoted = f"""'{key}="{value}"'"""
            raise UserError(
                f"{argument}: not in Hydra's override grammar ({reason})\n"
                f"  quote a value with special characters: {quoted}"
            ) from error
    return parsed


def _typed(key: str, arguments: list[str]) -> str:
    return next((a for a in arguments if a.lstrip("+").startswith(f"{key}=")), key)
