"""The rules that settings keep, each with its text, so that every error reads alike.

An error line is `key=value: must be <rule>; <a value that works>`.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import NamedTuple


class Rule(NamedTuple):
    """A rule on one value: its text, as it follows "must be", and its test."""

    text: str
    holds: Callable[[object], bool]


def integer(low: int, high: int) -> Rule:
    """An integer in [low, high]; a bool is not one."""
    return Rule(f"an integer from {low} to {high}", lambda v: _is_int(v) and low <= v <= high)


def even(low: int, high: int) -> Rule:
    """An even integer in [low, high]."""
    within = integer(low, high)
    return Rule(f"an even integer from {low} to {high}", lambda v: within.holds(v) and v % 2 == 0)


def number(low: float, high: float) -> Rule:
    """A finite real number in [low, high]."""
    return Rule(f"a number from {low:g} to {high:g}", lambda v: _is_real(v) and low <= v <= high)


def above(low: float) -> Rule:
    """A finite real number greater than `low`."""
    return Rule(f"a finite number above {low:g}", lambda v: _is_real(v) and v > low)


def numbers_above(low: float) -> Rule:
    """A list of finite real numbers, each greater than `low`."""
    return Rule(
        f"a list of finite numbers above {low:g}",
        lambda v: isinstance(v, list | tuple) and all(_is_real(x) and x > low for x in v),
    )


BOOLEAN = Rule("true or false", lambda v: isinstance(v, bool))


def optional(rule: Rule) -> Rule:
    """None, or what `rule` asks for."""
    return Rule(f"null or {rule.text}", lambda v: v is None or rule.holds(v))


def broken(key: str, value: object, rule: Rule, example: object) -> list[str]:
    """The error line for a value that breaks its rule, as a list of one; else an empty list."""
    if rule.holds(value):
        return []
    shown = "null" if value is None else value
    return [f"{key}={shown}: must be {rule.text}; try {key}={example}"]


def among(key: str, known: Iterable[str], prefix: str = "") -> str:
    """What to say of a key that does not exist: the nearest one that does, or all of them."""
    known = tuple(known)
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"there is {', '.join(known)}"


def misnamed(key: str, value: object, names: Iterable[str], default: str) -> list[str]:
    """As `broken`, for a value that must be one of `names`; the example is the nearest of them."""
    names = tuple(names)
    if isinstance(value, str) and value in names:
        return []
    near = difflib.get_close_matches(str(value), names, n=1) or [default]
    return [f"{key}={value}: must be one of {', '.join(names)}; try {key}={near[0]}"]


def known(
    config: Mapping[str, object], group: str, keys: Iterable[str], problems: list[str]
) -> dict[str, object]:
    """The settings of `config[group]` whose keys exist; the others go into `problems`."""
    settings = config.get(group, {})
    if not isinstance(settings, Mapping):
        problems.append(f"{group}={settings!r}: must be a group of settings; leave it out")
        return {}
    problems += [
        f"{group}.{key}: there is no such key; {among(str(key), keys, f'{group}.')}"
        for key in settings
        if key not in keys
    ]
    return {key: value for key, value in settings.items() if key in keys}


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
