"""What every part of the benchmark is run with."""

from dataclasses import dataclass

import torch

from benchmarks.clocks import Clock, GpuClock, WallClock
from benchmarks.part_progress import PartProgress


@dataclass(frozen=True)
class Bench:
    """A device, its clock, the seed of data and shuffles, and who is told of progress."""

    device: torch.device
    clock: Clock
    rounds: int
    seed: int
    progress: PartProgress


def new_bench(rounds: int, seed: int, progress: PartProgress) -> Bench:
    """For the GPU where there is one, else for the CPU."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    clock = GpuClock(device) if device.type == "cuda" else WallClock()
    return Bench(device, clock, rounds, seed, progress)
