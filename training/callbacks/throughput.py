"""Throughput: the time of training steps, and the device's peak, of which MFU is the share."""

import time

import torch

# Dense bf16 matrix peak in FLOP/s by words of the device's name, of which the longest match counts;
# vendors' headline figures with sparsity are twice these. Other devices get no MFU.
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
# Words of names of smaller chips with the same number, and of slices of one.
OTHER_CARDS = ("Laptop", " D ", " Ti ", "MIG", "GRID")
WARMUP_STEPS = 10  # not timed: they pay for compilation, caches and the allocator


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bf16 peak in FLOP/s, or None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    if any(part in f"{name} " for part in OTHER_CARDS):
        return None
    words = f" {name} "
    for part in sorted(PEAK_BF16, key=len, reverse=True):
        if f" {part} " in words or f" {part}-" in words:
            return PEAK_BF16[part]
    return None


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told, so that a time read now is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StepTimer:
    """Counts optimizer steps and the seconds that they take, with pauses for everything else.

    `steps` and `seconds` leave out the warm-up, the first ten steps; `interval()` does not.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.seconds = 0.0
        self._all_steps = 0
        self._interval_steps = 0
        self._interval_seconds = 0.0
        self._resumed_at: float | None = None  # None: paused

    def resume(self) -> None:
        """Go on timing; does nothing while it is timing already."""
        if self._resumed_at is None:
            self._resumed_at = time.perf_counter()

    def pause(self) -> None:
        """Stop timing and add the seconds since `resume`; the device must be synchronised."""
        if self._resumed_at is None:
            return
        elapsed = time.perf_counter() - self._resumed_at
        self._resumed_at = None
        self._interval_seconds += elapsed
        if self._all_steps > WARMUP_STEPS:
            self.seconds += elapsed

    def count_step(self) -> bool:
        """Count an optimizer step; true after the last of the warm-up, where it must be paused."""
        self._all_steps += 1
        self._interval_steps += 1
        if self._all_steps > WARMUP_STEPS:
            self.steps += 1
        return self._all_steps == WARMUP_STEPS

    def interval(self) -> tuple[int, float]:
        """Steps and seconds since the last call, or since the start; it must be paused."""
        interval = self._interval_steps, self._interval_seconds
        self._interval_steps, self._interval_seconds = 0, 0.0
        return interval
