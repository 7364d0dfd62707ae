"""Position maps: relative positions bent so that none is larger than those seen in training.

Plain RoPE scores a query at i against a key at j by their distance Δ = i - j. Each class here
puts another relative position R(i, j) in its place (`relative`), and says how to get it from
rotations of whole queries and keys (`passes`): under a pass the queries are rotated to `query(i)`
and the keys to `key(j)`, with all frequencies divided by `leak`, and the score of that pass counts
for the keys low <= j < high with low, high = `keys(i)`:

    R(i, j) = (query(i) - key(j)) / leak

A pass may also score by the mean of several rotations, of R and its neighbours (`spread`).
Passes never overlap, none reaches beyond the query, and the bounds of a pass do not decrease with
i. A pair that no pass covers is not attended to: a mask is a map too. Positions are int64 tensors
that broadcast; all functions here are pure. `methods/bend.py` attends under a map.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from common.rules import refuse
from methods.rules import number_problems


class Pass(NamedTuple):
    """One rotation of all queries and keys, and for each query the keys whose score it gives."""

    query: Callable[[Tensor], Tensor]  # positions of queries -> where they are rotated to
    key: Callable[[Tensor], Tensor]  # positions of keys -> where they are rotated to
    keys: Callable[[Tensor], tuple[Tensor, Tensor]]  # queries -> low, high; below 0 there is none
    leak: int = 1
    spread: int = 1  # the mean over so many distances, one apart, with R in their middle


class PositionMap(Protocol):
    """What `methods.bend.bend` takes; hashable, and equal where it bends alike."""

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """R(i, j) for queries at i and the keys at j <= i that are attended to, float64."""
        ...

    def passes(self) -> list[Pass]:
        """The rotations that give it, 1 to 3."""
        ...

    def __hash__(self) -> int: ...


def intervals(position_map: PositionMap, i: Tensor) -> tuple[Tensor, Tensor]:
    """The keys low <= j < high of each pass for queries at i (S,): int64 (P, S), at least 0."""
    bounds = [one.keys(i) for one in position_map.passes()]
    low, high = (torch.stack(side).clamp(min=0) for side in zip(*bounds, strict=True))
    return low, high


def attended(position_map: PositionMap, i: Tensor, j: Tensor) -> Tensor:
    """Whether queries at i attend to keys at j >= 0, booleans as i and j broadcast."""
    bounds = [one.keys(i) for one in position_map.passes()]
    return torch.stack([(low <= j) & (j < high) for low, high in bounds]).any(0)


@dataclass(frozen=True)
class ReRope:
    """ReRoPE (J. Su, kexue.fm/archives/9708): min(Δ, window).

    Distances from `window` on all look alike. A window of half the training length works where
    the training length itself fails.
    """

    window: int

    def __post_init__(self) -> None:
        refuse(number_problems("rerope", vars(self)))

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """min(Δ, window)."""
        return (i - j).clamp(max=self.window).double()

    def passes(self) -> list[Pass]:
        """Near as trained; far with every query at `window` and every key at 0."""
        far = _far(self.window, lambda i: torch.full_like(i, self.window), torch.zeros_like)
        return [_near(self.window), far]


@dataclass(frozen=True)
class MeanReRope:
    """From `window` on a key is scored by its mean over all distances from there to `longest`.

    The mean of a pair's rotations is that to the middle distance, times the Dirichlet kernel of its
    angle (`mean_of_turns` in bend.py). Slow pairs so read (window + longest) / 2. Fast ones, which
    over these distances turn any which way, fade, and with them what matches at one distance alone;
    what matches at all of them alike stays. With longest = window it is `ReRope`.
    """

    window: int
    longest: int

    def __post_init__(self) -> None:
        refuse(number_problems("mean-rerope", vars(self)))

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """Δ within the window, the middle of the distances beyond."""
        middle = (self.window + self.longest) / 2
        return (i - j).double().where(i - j < self.window, middle)

    def passes(self) -> list[Pass]:
        """Near as trained; far with every query at the middle, in halves of a position."""
        both = self.window + self.longest
        far = _far(self.window, lambda i: torch.full_like(i, both), torch.zeros_like)
        spread = self.longest - self.window + 1
        return [_near(self.window), far._replace(leak=2, spread=spread)]


@dataclass(frozen=True)
class LeakyReRope:
    """Leaky ReRoPE (kexue.fm/archives/9708): Δ, and from `window` on window + (Δ - window) / leak.

    Choose window + (length - window) / leak at most the training length.
    """

    window: int
    leak: int

    def __post_init__(self) -> None:
        refuse(number_problems("leaky-rerope", vars(self)))

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """Δ up to `window`, and `leak` times slower beyond."""
        distance = (i - j).double()
        return torch.minimum(distance, self.window + (distance - self.window) / self.leak)

    def passes(self) -> list[Pass]:
        """Near as trained; far with slower frequencies, and the queries moved on by the window."""
        shift = self.window * (self.leak - 1)
        return [
            _near(self.window),
            _far(self.window, lambda i: i + shift, _itself)._replace(leak=self.leak),
        ]


@dataclass(frozen=True)
class SelfExtend:
    """Self-Extend (arXiv:2401.01325): Δ within `window`, and beyond it grouped positions,
    i // group - j // group + window - window // group.

    The authors' rule: window + (length - window) / group below half to two thirds of the
    training length.
    """

    group: int
    window: int

    def __post_init__(self) -> None:
        refuse(number_problems("self-extend", vars(self)))

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """Δ up to `window`, a difference of groups beyond."""
        grouped = i // self.group - j // self.group + self.window - self.window // self.group
        return torch.where(i - j < self.window, i - j, grouped).double()

    def passes(self) -> list[Pass]:
        """Near as trained; far with positions in groups, the queries moved on to the window."""
        shift = self.window - self.window // self.group
        far = _far(self.window, lambda i: i // self.group + shift, lambda j: j // self.group)
        return [_near(self.window), far]


@dataclass(frozen=True)
class DualChunk:
    """Dual chunk attention (arXiv:2402.17463): keys numbered anew in every chunk of
    stride = chunk - local tokens, j mod stride, against queries at

        i mod stride                          keys of the same chunk
        min(i mod stride + stride, chunk)     keys of the chunk before: exact for `local` tokens
        chunk                                 keys of all older chunks

    No relative position is above `chunk`; the authors take 3/4 of the training length for it and
    1/8 for `local`. Their sharpening of the scores is left to log-n or to the temperature.
    """

    chunk: int
    local: int

    def __post_init__(self) -> None:
        refuse(number_problems("dual-chunk", vars(self)))

    @property
    def stride(self) -> int:
        """Tokens of a chunk."""
        return self.chunk - self.local

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """The query's place for the key's chunk, less the key's place in it."""
        apart, place = i // self.stride - j // self.stride, i % self.stride
        before = (place + self.stride).clamp(max=self.chunk)
        query = torch.where(apart == 0, place, torch.where(apart == 1, before, self.chunk))
        return (query - j % self.stride).double()

    def passes(self) -> list[Pass]:
        """The same chunk, the one before, and all older ones."""
        size = self.stride

        def key(j: Tensor) -> Tensor:
            return j % size

        def start(i: Tensor, before: int = 0) -> Tensor:  # of the query's chunk, or of one before
            return (i // size - before) * size

        return [
            Pass(lambda i: i % size, key, lambda i: (start(i), i + 1)),
            Pass(
                lambda i: (i % size + size).clamp(max=self.chunk),
                key,
                lambda i: (start(i, 1), start(i)),
            ),
            Pass(
                lambda i: torch.full_like(i, self.chunk),
                key,
                lambda i: (torch.zeros_like(i), start(i, 1)),
            ),
        ]


@dataclass(frozen=True)
class Window:
    """The last `window` tokens at their distance, and nothing else.

    A control: its loss is flat at any length, and it knows nothing of what lies further back.
    """

    window: int

    def __post_init__(self) -> None:
        refuse(number_problems("window", vars(self)))

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """Δ."""
        return (i - j).double()

    def passes(self) -> list[Pass]:
        """The near one of the other maps, alone."""
        return [_near(self.window)]


@dataclass(frozen=True)
class Sinks:
    """StreamingLLM (arXiv:2309.17453): the first `sinks` tokens and the last `window` ones, at
    their places in a cache that holds no others.

    To a sink j the relative position is min(i, sinks + window - 1) - j. A control, as `Window` is.
    """

    sinks: int
    window: int

    def __post_init__(self) -> None:
        refuse(number_problems("sinks", vars(self)))

    def relative(self, i: Tensor, j: Tensor) -> Tensor:
        """Δ within the window, and to the sinks as far as the end of the cache."""
        in_cache = i.clamp(max=self.sinks + self.window - 1) - j
        return torch.where(i - j < self.window, i - j, in_cache).double()

    def passes(self) -> list[Pass]:
        """The window, and the sinks before it."""
        far = Pass(
            lambda i: i.clamp(max=self.sinks + self.window - 1),
            _itself,
            lambda i: (torch.zeros_like(i), (i - self.window + 1).clamp(max=self.sinks)),
        )
        return [_near(self.window), far]


def _itself(position: Tensor) -> Tensor:
    return position


def _near(window: int) -> Pass:
    """Plain RoPE, within the window."""
    return Pass(_itself, _itself, lambda i: (i - window + 1, i + 1))


def _far(window: int, query: Callable[[Tensor], Tensor], key: Callable[[Tensor], Tensor]) -> Pass:
    """Another rotation, from the window on."""
    return Pass(query, key, lambda i: (torch.zeros_like(i), i - window + 1))
