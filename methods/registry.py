"""The position maps as methods: their settings by name, or by a rule of thumb.

`rerope@128` has its window from the name; `rerope` takes what its authors' rule gives for the
training length L and, where the map follows the length, for the context n. The maps themselves
stand in `methods/maps.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from common.rules import refuse
from methods.rules import NUMBERS, number_problems

if TYPE_CHECKING:
    from methods.maps import PositionMap

_Settings = tuple[int, ...]


class MapMethod(NamedTuple):
    """A class of `methods.maps` as a method."""

    kind: str  # the class
    rule: Callable[[int, int], _Settings]  # context and training length -> settings
    line: str  # what it does, with the fields by name
    stated: str  # the rule in words, the fields in capitals
    plain_within: bool  # whether what the rule gives is plain RoPE up to L
    control: bool = False  # hides tokens, and is no way to read them

    @property
    def by_length(self) -> bool:
        """Whether what the rule gives depends on the context, not on the training length alone."""
        return self.rule(2048, 256) != self.rule(4096, 256)


def _leaky(context: int, train_length: int) -> _Settings:
    window = train_length // 2
    return window, max(1, math.ceil((context - window) / (train_length - window)))


def _self_extend(context: int, train_length: int) -> _Settings:
    window = train_length // 4
    group = math.ceil((context - window) / (2 * train_length / 3 - window))
    return max(1, group), window


def _sinks(_: int, train_length: int) -> _Settings:
    sinks = min(4, train_length // 2)
    return sinks, train_length - sinks


MAPS: dict[str, MapMethod] = {
    "rerope": MapMethod(
        "ReRope",
        lambda _, train_length: (train_length // 2,),
        "distances above {window} read as {window}",
        "WINDOW = half the training length",
        plain_within=False,
    ),
    "mean-rerope": MapMethod(
        "MeanReRope",
        lambda _, train_length: (train_length // 2, train_length - 1),
        "distances from {window} on scored by the mean over all from {window} to {longest}",
        "WINDOW = half the training length, LONGEST = the longest distance in it",
        plain_within=False,
    ),
    "leaky-rerope": MapMethod(
        "LeakyReRope",
        _leaky,
        "distances above {window} grow {leak} times slower",
        "WINDOW = half the training length, the least LEAK that keeps within that length",
        plain_within=True,
    ),
    "self-extend": MapMethod(
        "SelfExtend",
        _self_extend,
        "distances from {window} on counted in groups of {group} tokens",
        "WINDOW = a quarter of the training length, the least GROUP that keeps within two thirds",
        plain_within=True,
    ),
    "dual-chunk": MapMethod(
        "DualChunk",
        lambda _, train_length: (3 * train_length // 4, max(1, train_length // 8)),
        "positions numbered anew in each chunk, distances kept for {local} tokens, at most {chunk}",
        "CHUNK = 3/4, LOCAL = 1/8 of the training length",
        plain_within=False,
    ),
    "window": MapMethod(
        "Window",
        lambda _, train_length: (train_length,),
        "a control: the last {window} tokens are seen, nothing before them",
        "WINDOW = the training length",
        plain_within=True,
        control=True,
    ),
    "sinks": MapMethod(
        "Sinks",
        _sinks,
        "a control: the first {sinks} and the last {window} tokens are seen, numbered without gap",
        "SINKS = 4, WINDOW = the rest of the training length",
        plain_within=True,
        control=True,
    ),
}
LEAST_TRAIN_LENGTH = 4  # below it the rules give windows of nothing


def settings_of(name: str, text: str) -> _Settings:
    """The numbers that follow the @ of `name`; ValueError, less the key, where they are wrong."""
    fields = NUMBERS[name]
    parts = text.split("x")
    if len(parts) != len(fields) or not all(part.isdecimal() for part in parts):
        words = "x".join(field.upper() for field in fields)
        raise ValueError(
            f"what follows the @ must be {words}, whole numbers; try {name}@{example_of(name)}"
        )
    settings = tuple(map(int, parts))
    refuse(number_problems(name, dict(zip(fields, settings, strict=True))))
    return settings


def example_of(name: str) -> str:
    """Numbers that may follow the @ of `name`."""
    return "x".join(map(str, NUMBERS[name].values()))


def line_of(name: str, settings: _Settings) -> str:
    """What the map does, for a legend."""
    method = MAPS[name]
    if settings:
        return method.line.format(**dict(zip(NUMBERS[name], settings, strict=True)))
    words = {field: field.upper() for field in NUMBERS[name]}
    return f"{method.line.format(**words)}; {method.stated}"


def map_of(name: str, settings: _Settings, *, context: int, train_length: int) -> PositionMap:
    """The map for a length."""
    from methods import maps  # which imports torch

    method = MAPS[name]
    make = getattr(maps, method.kind)
    return make(*(settings or method.rule(context, train_length)))
