"""How the time of a call is taken: on a CPU by the wall clock, on a GPU by CUDA events."""

import ctypes
import sys
import time
import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from benchmarks.failures import why

WARM_UP = 3  # calls before a capture
L2_MULTIPLE = 4  # of the L2 cache, written before every measurement

NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED

Call = Callable[[], object]
Sampler = Callable[[], float]  # runs the work once; returns its microseconds


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
    """A GPU's: CUDA events around the replay of a CUDA graph, with a flushed L2 cache.

    What a kernel reads or writes with evict_last survives the flush, and makes every candidate
    quicker that reads the same tensors. torch.compile reads q and k so; others beside it looked up
    to a fifth quicker (docs/results/kernel-trials-h100.json, flush). The cache is therefore told
    to forget those hints before it is flushed.

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
    """What turns lines of the L2 cache that are to be evicted last into ordinary ones."""
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
