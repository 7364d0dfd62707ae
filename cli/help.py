"""`--help`: the text of the command's YAML file, then every key with its default and its comment.

The comments are those that stand beside the keys in configs/*.yaml; files are read as text.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf

from cli.compose import composed
from cli.folders import CONFIGS, group_options, is_group, option_file

# Indentation, "- " of a defaults list, key, comment.
_KEY = re.compile(r"( *)(- )?(?:override )?/?([\w@]+):(?: +[^#]*)?(?:# (.*))?$")

FLAGS = (
    "--quiet, -q        print results, warnings and errors only",
    "--config-dir DIR   add options of your own: DIR/model/wide.yaml is model=wide",
    "--multirun, -m     a job for each combination of values, key=a,b",
    "--cfg job          print the config",
)


class Comment(NamedTuple):
    """What stands above a key, line by line, and behind it."""

    above: Sequence[str] = ()
    behind: str = ""


def help_text(config_name: str, lines: Sequence[str]) -> str:
    """The help of a command under overrides: `python train.py model=mini --help`."""
    config = composed(config_name, lines, with_hydra=True)
    template, choices = config.hydra.help.template, config.hydra.runtime.choices
    comments = _comments(config_name, choices)
    groups = sorted(group for group in map(str, choices) if is_group(group))
    groups = [group for group in groups if group != "phases"]
    options = [
        _commented(f"{group}: {', '.join(group_options(group))}", comments[group].behind)
        for group in groups
    ]
    keys = OmegaConf.to_container(config, resolve=False)
    assert isinstance(keys, dict)
    del keys["hydra"]
    keys.pop("phases", None)  # set by keys of their own
    shown = "\n".join(_annotated(keys, comments))
    flags = "\n  ".join(FLAGS)
    groups_shown = "\n".join(options)
    return Template(template).substitute(APP_CONFIG_GROUPS=groups_shown, CONFIG=shown, FLAGS=flags)


def _annotated(
    config: Mapping[Any, Any], comments: Mapping[str, Comment], at: str = ""
) -> list[str]:
    """YAML of a config, with the comments on its dotted keys."""
    lines = []
    indent = "  " * at.count(".")
    for key, value in config.items():
        comment = comments[f"{at}{key}"]
        lines += [f"{indent}# {line}" for line in comment.above]
        inner = isinstance(value, Mapping) and value
        line = f"{indent}{key}:" if inner else f"{indent}{key}: {_one_line(value)}"
        lines.append(_commented(line, comment.behind))
        lines += _annotated(value, comments, f"{at}{key}.") if inner else []
    return lines


def _commented(line: str, comment: str) -> str:
    """A line with its comment behind it, or above where it is long."""
    if not comment:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return f"{line} # {comment}" if len(line) <= 100 else f"{indent}# {comment}\n{line}"


def _one_line(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value)
    return yaml.safe_dump([value], default_flow_style=True, width=10**6)[1:-2]


def _comments(config_name: str, choices: Mapping[Any, Any]) -> dict[str, Comment]:
    """The comments of every file that was composed; of two on one key, that of the later file."""
    found: dict[str, Comment] = defaultdict(Comment)
    found |= dict(_comments_of_file(CONFIGS / f"{config_name}.yaml", ""))
    for choice, option in choices.items():
        group, _, package = str(choice).partition("@")
        if option is None or not is_group(group):
            continue
        prefix = "" if package or group == "experiment" else f"{group}."
        for file in _with_bases(group, str(option)):
            for key, comment in _comments_of_file(file, prefix):
                found[key] = comment._replace(behind=comment.behind or found[key].behind)
    return found


def _with_bases(group: str, option: str) -> Iterator[Path]:
    """The files of the same group that an option begins with, and its own."""
    if (file := option_file(group, option)) is None:
        return
    for base in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("defaults", []):
        if isinstance(base, str) and base != "_self_":
            yield from _with_bases(group, base)
    yield file


def _comments_of_file(file: Path, prefix: str) -> Iterator[tuple[str, Comment]]:
    """Each key of a file that has a comment, dotted; the file's first lines are its group's."""
    above: list[str] = []
    parents: list[str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        if line.lstrip().startswith("# "):
            above += [] if "@package" in line else [line.lstrip(" #")]
            continue
        if above and prefix and number == len(above):  # the head of the file
            yield prefix[:-1], Comment(above)
            above = []
        if line.startswith("hydra:"):
            return
        if found := _KEY.match(line):
            spaces, item, key, behind = found.groups()
            parents[len(spaces) // 2 :] = [key]
            dotted = key if item else ".".join(parents)
            if behind or above:
                yield f"{prefix}{dotted}", Comment(above, behind or "")
        above = []
