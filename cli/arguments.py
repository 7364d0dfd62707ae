"""What is wrong with the arguments of a command before Hydra's grammar has seen them.

That grammar is slow in deep brackets, and its parser of flags answers with a page of its own.
"""

import os
import re
from collections.abc import Mapping, Sequence

from cli.compose import composed, flatten, known_keys
from cli.errors import UserError
from cli.overrides import VERBATIM
from common.rules import nearest, shown

QUIET, _FOLDER = ("-q", "--quiet"), ("-cd", "--config-dir")
_FLAGS = ("-h", "--help", "-m", "--multirun", "--resolve", *QUIET)
_SHOWN = ("job", "hydra", "all")  # what -c and --cfg print
_THERE = (
    "there is --help, --multirun (-m), --quiet (-q), --config-dir DIR, --cfg job; all else is "
    "key=value"
)
_LONGEST_KEY = 200
_LONGEST_VALUE = 100_000
_LONG_NUMBER = re.compile(r"[\d_]{400}")  # the digits of the largest float are 309
_DEEPEST = 20  # brackets in each other


def check_arguments(arguments: Sequence[str], config_name: str) -> None:
    """UserError for the first argument that is neither `key=value` within bounds nor a flag."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        _check_characters(argument)
        if before in ("-c", "--cfg"):
            if argument not in _SHOWN:
                raise UserError(f"{before} {_cut(argument)}: must be one of {', '.join(_SHOWN)}")
        elif before in _FOLDER:
            continue
        elif argument.startswith("-"):
            _check_flag(argument)
        elif "=" not in argument and not argument.startswith("~"):
            raise UserError(_not_an_override(argument, arguments, config_name))
        else:
            _check_size(*argument.partition("=")[::2])
    if arguments and arguments[-1] in ("-c", "--cfg"):
        raise UserError(f"{arguments[-1]}: must be followed by one of {', '.join(_SHOWN)}")
    if arguments and arguments[-1] in _FOLDER:
        raise UserError(f"{arguments[-1]}: must be followed by a folder, e.g. --config-dir my")


def known_flags(flags: Sequence[str]) -> tuple[list[str], bool, str | None]:
    """The flags that Hydra knows, whether it was asked to be quiet, and the user's folder."""
    hydras = [flag for flag in flags if flag not in QUIET]
    folder = None
    for before, flag in zip(["", *hydras], hydras, strict=False):
        if before in _FOLDER:
            folder = flag
        elif flag.startswith("--config-dir="):
            folder = flag.partition("=")[2]
    return hydras, len(hydras) < len(flags), folder


def _check_characters(argument: str) -> None:
    """Arguments are Unicode; only a prompt has characters that control a terminal."""
    key = _cut(argument.partition("=")[0])
    if any("\ud800" <= c <= "\udfff" for c in argument):
        raise UserError(f"{key}: holds bytes that are not UTF-8; use other characters")
    control = next((c for c in argument if ord(c) < 32 or ord(c) == 127), None)
    if control and not argument.startswith("prompt="):
        raise UserError(f"{key}: holds the control character {control!r}; leave it out")


def _check_flag(argument: str) -> None:
    flag, _, value = argument.partition("=")
    if argument in (*_FLAGS, *_FOLDER, "-c", "--cfg") or (flag == "--cfg" and value in _SHOWN):
        return
    if flag == "--config-dir" and value:
        return
    raise UserError(f"{_cut(argument)}: no such flag; {_THERE}")


def _check_size(key: str, value: str) -> None:
    """Within what a person types, so that no parser or file system is asked for more."""
    if not key.strip("+~ "):
        raise UserError(f"{_cut(key)}={_cut(value)}: must be key=value, e.g. seed=1")
    if len(key) > _LONGEST_KEY:
        raise UserError(f"{_cut(key)}: a key of {len(key)} characters; no key is that long")
    if key == "prompt":
        return
    if len(value) > _LONGEST_VALUE:
        raise UserError(f"{key}={_cut(value)}: must have at most {_LONGEST_VALUE:,} characters")
    if key in VERBATIM:
        return _check_path(key, value)
    if _depth(value) > _DEEPEST:
        raise UserError(f"{key}={_cut(value)}: brackets must be at most {_DEEPEST} deep")
    if _LONG_NUMBER.search(value):
        raise UserError(f"{key}={_cut(value)}: a number must have fewer than 400 digits")


def _check_path(key: str, value: str) -> None:
    longest = max(len(os.fsencode(part)) for part in value.split("/"))
    if longest > 255 or (len(os.fsencode(value)) > 4000 and not value.startswith("[")):
        raise UserError(
            f"{key}={_cut(value)}: longer than a file system's names of 255 bytes and paths of "
            "4,000; take a shorter one"
        )


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest


def _not_an_override(argument: str, arguments: Sequence[str], config_name: str) -> str:
    """What to say of a word without `=`: the key that it was meant for."""
    said = f"{_cut(argument)}: must be key=value without spaces around the =; try"
    keys = known_keys(config_name)
    if argument in keys:
        default = flatten(composed(config_name))[argument]
        return f"{said} {argument}={'…' if isinstance(default, Mapping) else shown(default)}"
    path = os.path.exists(argument)
    if config_name in ("evaluate", "export") or (config_name == "generate" and path):
        return f"{said} checkpoint={argument}"
    if config_name == "generate":
        words = [a for a in arguments if "=" not in a and not a.startswith("-")]
        return f'{said} prompt="{_cut(" ".join(words))}"'
    if path and config_name == "train":
        directory = os.path.isdir(argument)
        return f"{said} {'resume=' if directory else 'data=text data.path='}{argument}"
    return f"{said} {nearest(argument, keys) or 'seed'}=…, or --help for all keys"


def _cut(text: str) -> str:
    """At most 60 characters of a text, all of them printable."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= 60 else f"{text[:57]}..."
