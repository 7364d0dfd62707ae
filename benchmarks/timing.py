"""Times that can be compared: all candidates in every round, in an order that is shuffled anew.

What disturbs the machine for a while then disturbs all of them. Times are medians over rounds, and
so are ratios: of two candidates' times in the same round.
"""

import gc
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.clocks import Call, Clock, Sampler
from benchmarks.failures import recorded

WARM_UP_ROUNDS = 3

_Sample = TypeVar("_Sample")


@dataclass(frozen=True)
class Timing:
    """The times of one candidate in microseconds, one for each round, and how they were taken."""

    times: list[float]
    mode: str

    def summary(self) -> dict[str, Any]:
        """Median and the 10th and 90th percentile, as plain data."""
        low, median, high = np.percentile(self.times, (10, 50, 90))
        figures = {"median_us": median, "p10_us": low, "p90_us": high}
        return {name: round(float(figure), 3) for name, figure in figures.items()} | {
            "mode": self.mode
        }


def median_ratio(times: list[float], base: list[float]) -> float:
    """Median over rounds of a candidate's time over another's in the same round."""
    return round(float(np.median(np.divide(times, base))), 4)


def ratios(
    timing: Timing, timings: Mapping[str, Timing], bases: Mapping[str, str]
) -> dict[str, float | None]:
    """A candidate's ratios to others, None to one that has no times.

    `bases`: the name of a ratio -> that of the candidate among `timings` that it is to.
    """
    return {
        key: median_ratio(timing.times, timings[base].times) if base in timings else None
        for key, base in bases.items()
    }


def interleaved(
    samplers: Mapping[str, Callable[[], _Sample]],
    rounds: int,
    seed: int,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, list[_Sample]]:
    """Call every sampler once a round, in shuffled order; returns what each gave, in rounds."""
    order, shuffle = list(samplers), random.Random(seed).shuffle
    samples: dict[str, list[_Sample]] = {name: [] for name in samplers}
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            samples[name].append(samplers[name]())
        on_round()
    return samples


def measure(
    makers: Mapping[str, Callable[[], Call]],
    clock: Clock,
    rounds: int,
    seed: int,
    on_step: Callable[[str], None],
    places: int = 1,
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Make every candidate's call, prepare it, and time all of them in interleaved rounds.

    Returns the timings, and for each candidate that failed the reason. `on_step` is called with a
    name before each preparation, and once more when the rounds begin.

    The place of a candidate's tensors in memory changes its time by a few hundredths. Every
    candidate is therefore made `places` times, in memory of its own, and these take turns.
    """
    prepared: dict[str, list[tuple[Sampler, str]]] = {}
    reasons: dict[str, str] = {}
    for name, make in makers.items():
        on_step(name)
        with recorded(name, reasons):
            prepared[name] = [clock.prepare(make()) for _ in range(places)]
    on_step("rounds")
    for name, pairs in prepared.items():
        with recorded(name, reasons):  # once more, now that all the others hold their memory
            for sampler, _ in pairs * WARM_UP_ROUNDS:
                sampler()
    samplers = {
        name: _in_turn([sampler for sampler, _ in pairs])
        for name, pairs in prepared.items()
        if name not in reasons
    }
    times = interleaved(samplers, rounds, seed)
    modes = {name: dict.fromkeys(mode for _, mode in prepared[name]) for name in samplers}
    return {name: Timing(times[name], "; ".join(modes[name])) for name in samplers}, reasons


def _in_turn(samplers: list[Sampler]) -> Sampler:
    turns = cycle(samplers)
    return lambda: next(turns)()


def release() -> None:
    """Give back the memory of what is not used any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
