"""Times that can be compared: all candidates in every round, in an order that is shuffled anew.

What disturbs the machine for a while then disturbs all of them. Times are medians over rounds, and
so are ratios: of two candidates' times in the same round.
"""

import ctypes
import gc
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol, TypeVar

import numpy as np
import torch

WARM_UP = 3  # calls before a capture, and rounds before the first that counts
L2_MULTIPLE = 4  # of the L2 cache, written before every measurement

NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED

Call = Callable[[], object]
Sampler = Callable[[], float]  # runs the work once; returns its microseconds
_Sample = TypeVar("_Sample")


@dataclass(frozen=True)
class Timing:
    """The times of one candidate in microseconds, one for each round, and how they were taken."""

    times: list[float]
    mode: str

    def summary(self) -> dict[str, float | str]:
        """Median and the 10th and 90th percentile, as plain data."""
        low, median, high = np.percentile(self.times, (10, 50, 90))
        figures = {"median_us": median, "p10_us": low, "p90_us": high}
        return {name: round(float(figure), 3) for name, figure in figures.items()} | {
            "mode": self.mode
        }


def median_ratio(times: list[float], base: list[float]) -> float:
    """Median over rounds of a candidate's time over another's in the same round."""
    return round(float(np.median(np.divide(times, base))), 4)


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


class Clock(Protocol):
    """How a device's time is taken."""

    def prepare(self, call: Call) -> tuple[Sampler, str]:
        """Warm `call` up; returns what measures it once, and the name of the way."""


class WallClock:
    """A CPU's: the time until the call has returned."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now

    def prepare(self, call: Call) -> tuple[Sampler, str]:
        """Warm `call` up; returns what measures it once, and the name of the way."""

        def sample() -> float:
            start = self.now()
            call()
            return (self.now() - start) * 1e6

        call()
        return sample, "wall clock"


class GpuClock:
    """A GPU's: CUDA events around the replay of a CUDA graph, out of a flushed L2 cache.

    What a kernel reads or writes with evict_last would outlive the flush, for itself and for all
    that share it: torch.compile reads q and k so, and others beside it looked up to a fifth
    quicker (docs/results/kernel-trials-h100.json, flush). So the cache is told to forget those
    hints first.

    Where a call cannot be captured it runs eagerly, and then its launches are part of its time.
    """

    def __init__(self, device: torch.device) -> None:
        size = torch.cuda.get_device_properties(device).L2_cache_size
        self.flushed = torch.empty(L2_MULTIPLE * size, dtype=torch.int8, device=device)
        self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.forget_hints = _cache_hints_reset()

    def prepare(self, call: Call) -> tuple[Sampler, str]:
        """Warm `call` up; returns what measures it once, and the name of the way."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                call()
        torch.cuda.synchronize()
        try:
            replay = _captured(call)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.synchronize()
            return lambda: self.time(call), f"eager: {why(error)}"
        return lambda: self.time(replay), "CUDA graph"

    def time(self, call: Call) -> float:
        """Microseconds of GPU time from a flushed cache."""
        self.forget_hints()
        self.flushed.zero_()  # takes longer than what follows takes to be launched
        self.start.record()
        call()
        self.end.record()
        self.end.synchronize()
        return self.start.elapsed_time(self.end) * 1000

    def empty_graph(self, rounds: int) -> float:
        """Microseconds that a graph with nothing in it seems to take: what every time contains."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that the graph is empty
            replay = _captured(lambda: None)
        return float(np.median([self.time(replay) for _ in range(rounds)]))


def _cache_hints_reset() -> Callable[[], object]:
    """What makes ordinary lines of the L2 cache of those that were to be evicted last."""
    if torch.version.hip is not None:
        return lambda: None  # no such hints there
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")

    def reset() -> None:
        status = driver.cuCtxResetPersistingL2Cache()
        if status not in (0, NOT_SUPPORTED):  # a GPU that has no such hints
            raise RuntimeError(f"cuCtxResetPersistingL2Cache: CUDA driver error {status}")

    return reset


def _captured(call: Call) -> Call:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay(held: Call = call) -> None:  # what the graph reads must live as long as it does
        graph.replay()

    return replay


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

    Where in memory a candidate's tensors happen to lie makes a difference of a few hundredths:
    every candidate is made `places` times, in memory of its own, and these take turns.
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
            for sampler, _ in pairs * WARM_UP:
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


@contextmanager
def recorded(name: str, reasons: dict[str, str]) -> Iterator[None]:
    """Whatever is raised inside becomes the reason why `name` has no figure; the others go on."""
    try:
        yield
    except Exception as error:
        reasons[name] = why(error)


def why(error: BaseException) -> str:
    """An exception in a line; torch.compile's by what it wraps."""
    inner = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0][:200]}" if lines else type(inner).__name__


def release() -> None:
    """Give back the memory of what is not used any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
