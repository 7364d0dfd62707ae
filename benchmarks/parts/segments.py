"""Packed sequences: does the number of segments cost time?"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from rich.console import RenderableType

from benchmarks.bench import Bench
from benchmarks.clocks import Call
from benchmarks.peers import PEERS
from benchmarks.shapes import THETA, Shape
from benchmarks.tables import caption, microseconds, new_table, number
from benchmarks.timing import measure, ratios
from kernels import inverse_frequencies, rope_phases, rope_triton

PACKED = Shape(1, 65536, 12, 12, 64)
SEGMENTS = (1, 16, 256, 2048)

HOW = (
    "forward; segments of random lengths in one packed sequence; medians over interleaved rounds, "
    "ratios within a round"
)


def segments(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Time of the rotation with `cu_seqlens`, against one segment and against a copy."""
    bench.progress.expect(len(SEGMENTS) + 2)
    q, k = PACKED.tensors(bench.device, bench.seed)
    phases = rope_phases(inverse_frequencies(PACKED.head_dim, THETA)).to(bench.device)

    def packed(count: int) -> Call:
        boundaries = cu_seqlens(count, PACKED.seq_len, bench.seed).to(bench.device)
        return lambda: rope_triton(q, k, phases=phases, cu_seqlens=boundaries)

    def copied() -> Call:
        copy = PEERS["copy"].prepare(PACKED, bench.device)
        return lambda: copy(q, k)

    makers = {"copy": copied} | {str(count): partial(packed, count) for count in SEGMENTS}
    timings, reasons = measure(makers, bench.clock, bench.rounds, bench.seed, bench.progress.step)
    bases = {"of_copy": "copy", "of_one_segment": "1"}
    figures = {name: t.summary() | ratios(t, timings, bases) for name, t in timings.items()}
    return {"how": HOW, "cell": PACKED.name, "segments": figures, "reasons": reasons}


def cu_seqlens(segments: int, tokens: int, seed: int) -> torch.Tensor:
    """Boundaries of non-empty segments of random lengths: int32 (segments + 1,), 0 to `tokens`."""
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randperm(tokens - 1, generator=generator)[: segments - 1] + 1
    ends = torch.tensor([0, tokens])
    return torch.cat((ends[:1], inner.sort().values, ends[1:])).to(torch.int32)


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Time by number of segments."""
    heads = ("µs", "× copy", "× one segment")
    table = new_table(f"Packed sequences, {result['cell']}", "segments", *heads)
    for name, figures in result["segments"].items():
        of_others = (number(figures[key], ".3f") for key in ("of_copy", "of_one_segment"))
        table.add_row(name, microseconds(figures["median_us"]), *of_others)
    table.caption = caption("forward, segments of random lengths", result["reasons"])
    yield table
