"""Tokens per second, and the share of the device's peak that they are (MFU)."""

import time

import torch

# Dense bf16 matrix peak in FLOP/s by a part of the device's name, longest match first; vendors'
# headline figures with sparsity are twice these. A device that is not here gets no MFU.
PEAK_BF16 = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H200 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
# Other chips under the same number, and slices of one.
NOT_THE_WHOLE_CARD = ("Laptop", " D ", " Ti ", "MIG", "GRID")
SKIPPED_STEPS = 10  # at the start: compilation, caches, the allocator


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bf16 peak in FLOP/s, or None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    if any(part in f"{name} " for part in NOT_THE_WHOLE_CARD):
        return None
    words = f" {name} "
    for part in sorted(PEAK_BF16, key=len, reverse=True):
        if f" {part} " in words or f" {part}-" in words:
            return PEAK_BF16[part]
    return None


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that the clock means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds spent training: it stands while something else runs.

    `seconds` and `steps` cover everything since the first ten steps, `lap()` the time since the
    last lap.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.steps = 0
        self._lap_seconds = 0.0
        self._lap_steps = 0
        self._seen_steps = 0
        self._since: float | None = None

    def start(self) -> None:
        """Run on; nothing where it runs already."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Stand, with the time since `start` counted; the caller has synchronised the device."""
        if self._since is None:
            return
        elapsed = time.perf_counter() - self._since
        self._since = None
        if self._seen_steps > SKIPPED_STEPS:
            self.seconds += elapsed
        self._lap_seconds += elapsed

    def step(self) -> bool:
        """Count an optimizer step; true when the clock must be stopped and started to begin."""
        self._seen_steps += 1
        self._lap_steps += 1
        if self._seen_steps > SKIPPED_STEPS:
            self.steps += 1
        return self._seen_steps == SKIPPED_STEPS

    def lap(self) -> tuple[int, float]:
        """Steps and seconds since the last lap; the clock must stand."""
        lap = self._lap_steps, self._lap_seconds
        self._lap_steps, self._lap_seconds = 0, 0.0
        return lap
