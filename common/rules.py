"""What a value must be, and how it is said that it is not.

A rule has a text, which follows "must be", a test, and a value that works. The rules of a room
stand in a table, by key, beside the settings that they rule, and `problems` goes through it. Every
line reads alike:

    key=value: must be <rule>; try key=<a value that works>
"""

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A rule on one value: its text, its test, and what works in the place of a wrong value."""

    text: str
    holds: Callable[[Any], bool]
    works: Callable[[Any], object]


Rules = Mapping[str, Rule]
_LONGEST = 400  # characters of a value in a message


def problems(values: Mapping[str, object], rules: Rules, prefix: str = "") -> list[str]:
    """A line for each of `values` that breaks its rule; what is not there is not asked for.

    `prefix` stands before every key: `model.` for the keys of a group.
    """
    return [
        f"{prefix}{key}={shown(value)}: must be {rule.text}; "
        f"try {prefix}{key}={shown(rule.works(value))}"
        for key, rule in rules.items()
        if key in values and not rule.holds(value := values[key])
    ]


def broken_keys(values: Mapping[str, object], rules: Rules) -> set[str]:
    """The keys of `values` that break their rules."""
    return {key for key, rule in rules.items() if key in values and not rule.holds(values[key])}


def refuse(lines: Collection[str]) -> None:
    """Raise a ValueError of these lines, if there are any."""
    if lines:
        raise ValueError("\n".join(lines))


def shown(value: object) -> str:
    """A value as it is typed on a command line; the middle of a very long one is left out."""
    if isinstance(value, list | tuple):
        text = f"[{','.join(map(shown, value))}]"
    else:
        text = "null" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 4 :]}"


# The rules


def of(text: str, holds: Callable[[Any], bool], example: object) -> Rule:
    """A rule with one example for all wrong values."""
    return Rule(text, holds, lambda _: example)


def integer(low: int, high: int, example: object) -> Rule:
    """An integer in [low, high]; a bool is not one."""
    return of(
        f"an integer from {low} to {high}", lambda v: _is_int(v) and low <= v <= high, example
    )


def at_least(low: int, example: object) -> Rule:
    """An integer from `low` to one that nothing here reaches, 2^40."""
    return integer(low, 2**40, example)._replace(text=f"an integer of at least {low}")


def even(low: int, high: int, example: object) -> Rule:
    """An even integer in [low, high]."""
    within = integer(low, high, example)
    return of(
        f"an even integer from {low} to {high}", lambda v: within.holds(v) and v % 2 == 0, example
    )


def number(low: float, high: float, example: object) -> Rule:
    """A finite real number in [low, high]."""
    return of(
        f"a number from {low:g} to {high:g}", lambda v: _is_real(v) and low <= v <= high, example
    )


def above(low: float, example: object) -> Rule:
    """A finite real number greater than `low`."""
    return of(f"a finite number above {low:g}", lambda v: _is_real(v) and v > low, example)


def between(low: float, high: float, example: object) -> Rule:
    """A real number in (low, high)."""
    return of(
        f"a number between {low:g} and {high:g}", lambda v: _is_real(v) and low < v < high, example
    )


BOOLEAN = of("true or false", lambda v: isinstance(v, bool), "true")


def text(example: str) -> Rule:
    """A text that is more than spaces."""
    return of("text", lambda v: isinstance(v, str) and bool(v.strip()), example)


def one_of(names: Iterable[str], example: str) -> Rule:
    """One of these names; the nearest of them works, else `example`."""
    names = tuple(names)
    return Rule(
        f"one of {', '.join(names)}",
        lambda v: isinstance(v, str) and v in names,
        lambda v: nearest(v, names) or example,
    )


def optional(rule: Rule) -> Rule:
    """None, or what `rule` asks for."""
    return rule._replace(text=f"null or {rule.text}", holds=lambda v: v is None or rule.holds(v))


def list_of(rule: Rule, *, repeats: bool = False) -> Rule:
    """A list of one or more, each as `rule` asks; what works keeps those that are right.

    `repeats`: what works may hold one twice.
    """

    def works(value: Any) -> list[object]:
        values = value if isinstance(value, list | tuple) and value else [value]
        right = [v if rule.holds(v) else rule.works(v) for v in values]
        return [v for i, v in enumerate(right) if repeats or v not in right[:i]]

    return Rule(
        f"a list of one or more, each {rule.text}",
        lambda v: isinstance(v, list | tuple) and len(v) > 0 and all(map(rule.holds, v)),
        works,
    )


# Names that do not exist


def nearest(word: object, names: Iterable[str]) -> str | None:
    """The name that `word` was meant to be: `optimizer.lr` for lr, `yarn` for yarm; or None."""
    names = tuple(names)
    inner = [name for name in names if name.endswith(f".{word}")]
    near = inner or difflib.get_close_matches(str(word), names, n=1)
    return near[0] if near else None


def among(word: object, names: Iterable[str], prefix: str = "") -> str:
    """What to say of a name that does not exist: the nearest one that does, or all of them."""
    names = tuple(names)
    near = nearest(word, names)
    return f"did you mean {prefix}{near}?" if near else f"there is {', '.join(names)}"


def unknown(given: Iterable[str], names: Collection[str], prefix: str = "") -> list[str]:
    """A line for each given key that is none of `names`."""
    return [
        f"{prefix}{key}: there is no such key; {among(key, names, prefix)}"
        for key in given
        if key not in names
    ]


def group_of(
    config: Mapping[str, object], group: str, keys: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The settings of `config[group]` whose keys exist, and a line for each of the others."""
    settings = config.get(group, {})
    if not isinstance(settings, Mapping):
        return {}, [f"{group}={shown(settings)}: must be a group of settings; leave it out"]
    known = {key: value for key, value in settings.items() if key in keys}
    return known, unknown(settings, keys, f"{group}.")


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
