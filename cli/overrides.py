"""What the user typed, parsed once by Hydra's own grammar."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from cli.errors import UserError
from common.rules import shown

# Text that a person types as it is: spaces, commas, brackets and all.
PATHS = (
    *("checkpoint", "data.path", "run_dir", "resume", "init_from", "output_dir"),
    *("prompt_file", "prompts", "output"),
)
VERBATIM = ("prompt", *PATHS)
WITH_VALUE = ("-c", "--cfg", "-cd", "--config-dir")  # flags that the next word belongs to


class Overrides:
    """The `key=value` of one job.

    Attributes:
        lines: as Hydra takes them.
        parsed: as Hydra understands them, in the same order.
        typed: by key, the last word on it, as it is shown in an error.
        swept: the keys that are others in other jobs of a sweep; none in a single run.
        directory: where the run of a sweep's job goes, `runs/<name>/<timestamp>/<label>`.
        choices: by group, the option that Hydra has composed; empty where Hydra was not asked.
    """

    def __init__(
        self,
        lines: Sequence[str] = (),
        *,
        command: "Overrides | None" = None,
        directory: Path | None = None,
        choices: Mapping[Any, Any] | None = None,
    ) -> None:
        """`command`: of a sweep's job, what was typed. UserError for a line that is no override."""
        self.lines = list(lines)
        self.parsed = [_parse(line) for line in self.lines]
        self.typed = {one.key_or_group: _as_typed(one) for one in self.parsed}
        fixed = [one.key_or_group for one in command.fixed()] if command else list(self.typed)
        self.swept = [key for key in self.typed if key not in fixed]
        self.directory = directory
        chosen = (choices or {}).items()
        self.choices = {str(group): str(option) for group, option in chosen if option is not None}

    def fixed(self) -> list[Override]:
        """Those that are the same in all jobs of a sweep."""
        return [one for one in self.parsed if not one.is_sweep_override()]

    def of(self, *keys: str) -> list[str]:
        """The overrides of these keys and of what lies below them, as they were typed."""
        below = tuple(f"{key}." for key in keys)
        return [text for key, text in self.typed.items() if key in keys or key.startswith(below)]


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides, quoted for Hydra where they are verbatim, and the flags with their values."""
    lines: list[str] = []
    flags: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        of_flag = before in WITH_VALUE
        (flags if argument.startswith("-") or of_flag else lines).append(argument)
    return [_quote_verbatim(_in_trainer(line)) for line in lines], flags


def values_of(override: Override) -> list[object]:
    """What an override sets its key to: one value, or those that a sweep names one by one."""
    if isinstance(override.value(), Glob):
        return []  # Hydra finds the options of a group itself
    if override.is_sweep_override() and not override.is_discrete_sweep():
        return []  # a sweeper draws from an interval
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.value()]


def _in_trainer(argument: str) -> str:
    """`+trainer.max_time=…`, as Lightning's users write it, whether the key is there or not."""
    return f"+{argument}" if argument.startswith("+trainer.") else argument


def jobs_of(overrides: Overrides) -> Iterator[list[str]]:
    """The overrides of each job of a sweep; of one that does not say its values itself, none."""
    values = [values_of(one) if one.is_sweep_override() else [None] for one in overrides.parsed]
    for chosen in product(*values):
        yield [
            line if value is None else f"{one.get_key_element()}={value}"
            for line, one, value in zip(overrides.lines, overrides.parsed, chosen, strict=True)
        ]


def with_words(arguments: Sequence[str], key: str) -> list[str]:
    """`arguments` with those that are paths and no `key=value` gathered as the list `key`.

    A path may hold a `=`, as the directories of a sweep's jobs do. UserError where the list was
    typed as well.
    """
    words, others = list[str](), list[str]()
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_word = before not in WITH_VALUE and _is_path(argument)
        (words if is_word else others).append(argument)
    typed = next((other for other in others if other.startswith(f"{key}=")), None)
    if words and typed:
        raise UserError(f"{typed}: {words[0]} is named beside it; name all of them in one way")
    return [*others, f"{key}=[{','.join(map(quoted, words))}]"] if words else others


def _is_path(argument: str) -> bool:
    if argument.startswith("-"):
        return False
    key, equals, _ = argument.partition("=")
    inner = "/" in key and not key.startswith("hydra/")
    return not equals or inner or os.path.lexists(argument)


def _quote_verbatim(argument: str) -> str:
    """`prompt=To be, or not` in quotes for Hydra's grammar; null and quoted values stay."""
    key, equals, value = argument.partition("=")
    if not _is_verbatim(key, value) or not equals or value == "null":
        return argument
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return f"{key}={quoted(value)}"


def _is_verbatim(key: str, value: str) -> bool:
    """Whether a value is text as it stands; `data.tokenizer`, where it is a path and no name."""
    is_path = os.sep in value or value.endswith(".json")
    return key in VERBATIM or (key == "data.tokenizer" and is_path)


def quoted(text: str) -> str:
    """A text in quotes for Hydra's grammar, that is taken as it is."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # a quote, and the backslashes before it
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped.replace('${', chr(92) + '${')}'"


def _as_typed(override: Override) -> str:
    """An override without the quotes that we put around it."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, str) and _is_verbatim(key, value):
        return f"{key}={value}"
    return str(override.input_line)


def _check_integers(override: Override) -> None:
    """Files and tensors hold integers of 64 bits, floats of any size."""
    for number in _numbers(values_of(override)):
        if not -(2**63) <= number < 2**63:
            key = override.key_or_group
            raise UserError(f"{override.input_line}: beyond 64 bits; take a smaller {key}")


def _numbers(value: object) -> Iterator[int]:
    """The integers in a value, however nested."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict):
        yield from _numbers([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)


def _parse(line: str) -> Override:
    if "=" not in line and not line.startswith("~"):
        raise UserError(f"{line}: must be key=value without spaces around the =")
    try:
        override = OverridesParser.create().parse_overrides([line])[0]
        _check_integers(override)
        return override
    except HydraException as error:
        reason = shown(str(error).splitlines()[0])
        key, _, value = line.partition("=")
        quoted = shown(f"""'{key}="{value}"'""")
        raise UserError(
            f"{shown(line)}: not in Hydra's override grammar ({reason})\n"
            f"  quote a value with special characters: {quoted}"
        ) from error
