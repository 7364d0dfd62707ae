"""Attention under bent positions: what a position map costs beside plain causal attention.

Shapes: B batch, S sequence, H heads, D head_dim.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import RenderableType
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.clocks import Call
from benchmarks.failures import recorded
from benchmarks.shapes import THETA
from benchmarks.tables import caption, microseconds, new_table, number
from benchmarks.timing import Timing, measure, ratios, release
from kernels import resolve_backend, rotate
from methods.bend import rotated
from methods.bent_attention import Rotate, bent_attention
from methods.maps import PositionMap
from methods.registry import MAPS, map_of
from model import RoPEAttention
from model.fused_attention import window_attention

LENGTHS = (4096, 8192, 16384, 32768)
TRAIN_LENGTH = 512  # what the maps' settings follow from
BATCH, HEADS, HEAD_DIM = 1, 6, 64
PLAIN, SDPA, NAIVE = "plain causal", "SDPA causal", "ReRoPE, materialised"
TITLES = {  # of the maps that are not called here as the methods are
    "rerope": "ReRoPE",
    "mean-rerope": "mean ReRoPE",
    "leaky-rerope": "Leaky ReRoPE",
    "self-extend": "Self-Extend",
}

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


def maps(seq_len: int) -> dict[str, PositionMap]:
    """Every map as its rule sets it for a model trained at TRAIN_LENGTH."""
    lengths = {"context": seq_len, "train_length": TRAIN_LENGTH}
    return {TITLES.get(name, name): map_of(name, (), **lengths) for name in MAPS}


def _ways(seq_len: int, bench: Bench) -> dict[str, Callable[[], Call]]:
    """What makes each candidate's call."""
    q, k, v = _tensors(seq_len, bench)
    attention = RoPEAttention(HEADS * HEAD_DIM, HEADS, 0.0, THETA, causal=True).to(bench.device)
    rotation = partial(rotated, attention)
    backend = resolve_backend("auto", q.device)
    rotate_both = partial(rotate, q, k, phases=attention.phases, backend=backend)

    def plain() -> Tensor:
        return window_attention(*rotate_both(), v, None)

    def sdpa() -> Tensor:
        heads_q, heads_k, heads_v = (x.transpose(1, 2) for x in (*rotate_both(), v))
        return F.scaled_dot_product_attention(heads_q, heads_k, heads_v, is_causal=True)

    calls: dict[str, Call] = {PLAIN: plain}
    for name, its_map in maps(seq_len).items():
        calls[name] = partial(bent_attention, q, k, v, its_map, rotation, fused=True)
    calls[SDPA] = sdpa
    calls[NAIVE] = partial(materialised_rerope, q, k, v, TRAIN_LENGTH // 2, rotation)
    return {name: partial(_without_gradients, call) for name, call in calls.items()}


def _tensors(seq_len: int, bench: Bench) -> list[Tensor]:
    """Random q, k and v (B, S, H, D)."""
    shape, dtype = (BATCH, seq_len, HEADS, HEAD_DIM), torch.bfloat16
    generator = torch.Generator(bench.device).manual_seed(bench.seed)
    return [
        torch.randn(shape, device=bench.device, dtype=dtype, generator=generator) for _ in range(3)
    ]


def _without_gradients(call: Call) -> Call:
    return torch.inference_mode()(call)


def materialised_rerope(q: Tensor, k: Tensor, v: Tensor, window: int, rotation: Rotate) -> Tensor:
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
    return {
        name: timing.summary()
        | ratios(timing, timings, {"of_plain": PLAIN})
        | {"peak_memory_bytes": memory[name]}
        for name, timing in timings.items()
    }


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A table for each length."""
    for seq_len, cell in result["lengths"].items():
        title = f"Attention over {int(seq_len):,} tokens, {result['shape']}, and its rotations"
        table = new_table(title, "way", "µs", "× plain", "peak MiB")
        for name, figures in cell["ways"].items():
            peak = figures["peak_memory_bytes"]
            mebibytes = number(None if peak is None else peak / 2**20, ",.1f")
            ratio = number(figures["of_plain"], ".3f")
            table.add_row(name, microseconds(figures["median_us"]), ratio, mebibytes)
        notes = f"forward, bf16; remaps as set for a model trained at {result['train_length']}"
        table.caption = caption(notes, cell["reasons"])
        yield table
