"""What a measurement computes in: bfloat16 autocast on a GPU, the weights' own dtype elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device) -> AbstractContextManager:
    """The context in which a measurement runs its forwards on `device`."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


def precision_of(device: str, dtype: str = "float32") -> str:
    """The same in words, for weights of `dtype` on a type of device."""
    return "bfloat16 autocast on cuda" if device == "cuda" else f"{dtype} on {device}"
