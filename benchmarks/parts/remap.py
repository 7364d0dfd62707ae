"""Attention under bent positions: what a remap costs beside plain causal attention.

Shapes: B batch, S sequence, H heads, D head_dim.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.cells import THETA
from benchmarks.timing import Call, Timing, measure, median_ratio, recorded, release
from kernels import resolve_backend, rotate
from methods.bend import rotated
from methods.bent_attention import Rotation, bent_attention
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
from model import RoPEAttention
from model.fused_attention import window_attention

LENGTHS = (4096, 8192, 16384, 32768)
TRAIN_LENGTH = 512  # what the remaps' settings follow from
BATCH, HEADS, HEAD_DIM = 1, 6, 64
PLAIN, SDPA, NAIVE = "plain causal", "SDPA causal", "ReRoPE, materialised"

HOW = (
    "forward of bfloat16 q, k and v, with all rotations; medians over interleaved rounds, of_plain "
    "is the median of the ratios within a round; peak memory beyond q, k and v, of a call by itself"
)


def remap(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Time and memory of every way at every length."""
    bench.progress.expect(len(LENGTHS) * (len(_ways(LENGTHS[0], bench)) + 1))
    lengths = {}
    for seq_len in LENGTHS:
        ways = _ways(seq_len, bench)
        memory, reasons = _peaks(ways, bench.device)
        makers = {name: make for name, make in ways.items() if name not in reasons}
        on_step = partial(_step, bench, seq_len)
        timings, failed = measure(makers, bench.clock, bench.rounds, bench.seed, on_step)
        figures = _figures(timings, memory)
        lengths[str(seq_len)] = {"ways": figures, "reasons": reasons | failed}
        release()
    shape = f"{BATCH} x {HEADS} heads of {HEAD_DIM}"
    return {"how": HOW, "shape": shape, "train_length": TRAIN_LENGTH, "lengths": lengths}


def remaps(seq_len: int) -> dict[str, PositionMap]:
    """Every remap as its rule sets it (`methods/registry.py`) for a model trained at 512."""
    half, quarter = TRAIN_LENGTH // 2, TRAIN_LENGTH // 4
    leak = max(1, math.ceil((seq_len - half) / half))
    group = max(1, math.ceil((seq_len - quarter) / (2 * TRAIN_LENGTH / 3 - quarter)))
    return {
        "ReRoPE": ReRope(half),
        "mean ReRoPE": MeanReRope(half, TRAIN_LENGTH - 1),
        "Leaky ReRoPE": LeakyReRope(half, leak),
        "Self-Extend": SelfExtend(group, quarter),
        "dual-chunk": DualChunk(3 * quarter, TRAIN_LENGTH // 8),
        "window": Window(TRAIN_LENGTH),
        "sinks": Sinks(4, TRAIN_LENGTH - 4),
    }


def _ways(seq_len: int, bench: Bench) -> dict[str, Callable[[], Call]]:
    """What makes each candidate's call."""
    shape, options = (BATCH, seq_len, HEADS, HEAD_DIM), {"device": bench.device}
    generator = torch.Generator(bench.device).manual_seed(bench.seed)
    options |= {"dtype": torch.bfloat16, "generator": generator}
    q, k, v = (torch.randn(shape, **options) for _ in range(3))
    attention = RoPEAttention(HEADS * HEAD_DIM, HEADS, 0.0, THETA, causal=True).to(bench.device)
    rotation = partial(rotated, attention)
    turned = partial(
        rotate, q, k, phases=attention.phases, backend=resolve_backend("auto", q.device)
    )

    def plain() -> Tensor:
        return window_attention(*turned(), v, None)

    def sdpa() -> Tensor:
        heads = (x.transpose(1, 2) for x in (*turned(), v))
        return F.scaled_dot_product_attention(*heads, is_causal=True)

    calls: dict[str, Call] = {PLAIN: plain}
    for name, its in remaps(seq_len).items():
        calls[name] = partial(bent_attention, q, k, v, its, rotation, fused=True)
    calls[SDPA] = sdpa
    calls[NAIVE] = partial(materialised_rerope, q, k, v, TRAIN_LENGTH // 2, rotation)
    return {name: partial(_without_gradients, call) for name, call in calls.items()}


def _without_gradients(call: Call) -> Call:
    return torch.inference_mode()(call)


def materialised_rerope(q: Tensor, k: Tensor, v: Tensor, window: int, rotation: Rotation) -> Tensor:
    """ReRoPE as published (bojone/rerope): both scores of all pairs, and one of the two chosen."""
    positions = torch.arange(q.shape[1], device=q.device)
    zeros = torch.zeros_like(positions)
    ahead = positions[:, None] - positions
    scores = torch.where(
        ahead < window,
        _scores(rotation(q, positions), rotation(k, positions)),
        _scores(rotation(q, zeros + window), rotation(k, zeros)),
    )
    scores = scores.masked_fill(ahead < 0, -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
    return (weights @ v.transpose(1, 2)).transpose(1, 2)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """(B, S, H, D) -> (B, H, S, S)."""
    return q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(q.shape[-1])


def _peaks(
    ways: Mapping[str, Callable[[], Call]], device: torch.device
) -> tuple[dict[str, int | None], dict[str, str]]:
    """Bytes that each call needs at most, null on a CPU; and why one failed."""
    peaks: dict[str, int | None] = {}
    reasons: dict[str, str] = {}
    for name, make in ways.items():
        with recorded(name, reasons):
            peaks[name] = _peak(make(), device)
        release()
    return peaks, reasons


def _peak(call: Call, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    call()  # compiles, and makes what is kept
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _step(bench: Bench, seq_len: int, name: str) -> None:
    bench.progress.step(f"{seq_len}: {name}")


def _figures(
    timings: Mapping[str, Timing], memory: Mapping[str, int | None]
) -> dict[str, dict[str, Any]]:
    base = timings.get(PLAIN)
    return {
        name: timing.summary()
        | {
            "of_plain": median_ratio(timing.times, base.times) if base else None,
            "peak_memory_bytes": memory[name],
        }
        for name, timing in timings.items()
    }
