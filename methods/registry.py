"""The position maps as methods: their settings by name, or by a rule of thumb.

`rerope@128` has its window from the name; `rerope` takes what its authors' rule gives for the
training length L and, where the map follows the length, for the context n. The maps themselves
stand in `methods/maps.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from methods.maps import (
    DualChunk,
    LeakyReRope,
    MeanReRope,
    PositionMap,
    ReRope,
    SelfExtend,
    Sinks,
    Window,
)

_Settings = tuple[int, ...]


class MapMethod(NamedTuple):
    """A class of `methods.maps` as a method."""

    make: Callable[..., PositionMap]
    fields: tuple[str, ...]  # what the numbers after the @ are, in order, joined by an x
    rule: Callable[[int, int], _Settings]  # context and training length -> settings
    line: str  # what it does, with the fields by name
    stated: str  # the rule in words, the fields in capitals
    example: str
    plain_within: bool  # whether what the rule gives is plain RoPE up to L

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
        ReRope,
        ("window",),
        lambda _, train_length: (train_length // 2,),
        "distances above {window} read as {window}",
        "WINDOW = half the training length",
        "128",
        plain_within=False,
    ),
    "mean-rerope": MapMethod(
        MeanReRope,
        ("window", "longest"),
        lambda _, train_length: (train_length // 2, train_length - 1),
        "distances from {window} on scored by the mean over all from {window} to {longest}",
        "WINDOW = half the training length, LONGEST = the longest distance in it",
        "128x255",
        plain_within=False,
    ),
    "leaky-rerope": MapMethod(
        LeakyReRope,
        ("window", "leak"),
        _leaky,
        "distances above {window} grow {leak} times slower",
        "WINDOW = half the training length, the least LEAK that keeps within that length",
        "128x16",
        plain_within=True,
    ),
    "self-extend": MapMethod(
        SelfExtend,
        ("group", "window"),
        _self_extend,
        "distances from {window} on counted in groups of {group} tokens",
        "WINDOW = a quarter of the training length, the least GROUP that keeps within two thirds",
        "8x64",
        plain_within=True,
    ),
    "dual-chunk": MapMethod(
        DualChunk,
        ("chunk", "local"),
        lambda _, train_length: (3 * train_length // 4, max(1, train_length // 8)),
        "positions numbered anew in each chunk, distances kept for {local} tokens, at most {chunk}",
        "CHUNK = 3/4, LOCAL = 1/8 of the training length",
        "192x32",
        plain_within=False,
    ),
    "window": MapMethod(
        Window,
        ("window",),
        lambda _, train_length: (train_length,),
        "a control: the last {window} tokens are seen, nothing before them",
        "WINDOW = the training length",
        "256",
        plain_within=True,
    ),
    "sinks": MapMethod(
        Sinks,
        ("sinks", "window"),
        _sinks,
        "a control: the first {sinks} and the last {window} tokens are seen, numbered without gap",
        "SINKS = 4, WINDOW = the rest of the training length",
        "4x252",
        plain_within=True,
    ),
}
LEAST_TRAIN_LENGTH = 4  # below it the rules give windows of nothing


def settings_of(name: str, text: str) -> _Settings:
    """The numbers that follow the @ of `name`; ValueError, less the key, where they are wrong."""
    method = MAPS[name]
    words = "x".join(field.upper() for field in method.fields)
    parts = text.split("x")
    if len(parts) != len(method.fields) or not all(part.isdecimal() for part in parts):
        example = f"{name}@{method.example}"
        raise ValueError(f"what follows the @ must be {words}, whole numbers; try {example}")
    settings = tuple(map(int, parts))
    method.make(*settings)
    return settings


def line_of(name: str, settings: _Settings) -> str:
    """What the map does, for a legend."""
    method = MAPS[name]
    if settings:
        shown = dict(zip(method.fields, settings, strict=True))
        return method.line.format(**shown)
    words = {field: field.upper() for field in method.fields}
    return f"{method.line.format(**words)}; {method.stated}"


def map_of(name: str, settings: _Settings, *, context: int, train_length: int) -> PositionMap:
    """The map for a length."""
    method = MAPS[name]
    return method.make(*(settings or method.rule(context, train_length)))
