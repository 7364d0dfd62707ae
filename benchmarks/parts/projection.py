"""The projection to q, k and v and the rotation: in two passes over q and k, or in one GEMM.

Shapes: B batch, S sequence, C d_model, H heads, N 3 C.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import RenderableType
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.clocks import Call
from benchmarks.shapes import THETA
from benchmarks.tables import caption, microseconds, new_table, number
from benchmarks.timing import measure, ratios, release
from kernels import inverse_frequencies, rope_phases, rope_qkv
from kernels.gemm.projection import can_project, project

WIDTHS = (384, 768, 1536)
BATCH, SEQ_LEN, HEAD_DIM = 64, 1024, 64

HOW = (
    "forward of bfloat16 tensors; medians over interleaved rounds, of_linear is the median of the "
    "ratios to F.linear within a round; a copy of q and k moves what a rotation of its own moves"
)


def projection(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Time of F.linear, of the rotation after it, and of both in one, at three widths."""
    bench.progress.expect(len(WIDTHS) * 5)
    widths = {}
    for width in WIDTHS:
        makers = _ways(width, bench)
        on_step = partial(_step, bench, width)
        timings, reasons = measure(makers, bench.clock, bench.rounds, bench.seed, on_step)
        bases = {"of_linear": "F.linear"}
        figures = {name: t.summary() | ratios(t, timings, bases) for name, t in timings.items()}
        widths[str(width)] = {"ways": figures, "reasons": reasons}
        release()
    return {"how": HOW, "tokens": BATCH * SEQ_LEN, "widths": widths}


def _step(bench: Bench, width: int, name: str) -> None:
    bench.progress.step(f"{width}: {name}")


def _ways(width: int, bench: Bench) -> dict[str, Callable[[], Call]]:
    """What makes each candidate's call."""
    x, weight = _tensors(width, bench)
    phases = rope_phases(inverse_frequencies(HEAD_DIM, THETA)).to(bench.device)
    heads = (width // HEAD_DIM, width // HEAD_DIM)

    def linear() -> Call:
        return lambda: F.linear(x, weight)

    def rotated_after() -> Call:
        return lambda: rope_qkv(F.linear(x, weight), *heads, phases=phases, backend="triton")

    def fused() -> Call:
        if not can_project(x, weight, *heads, phases):
            raise ValueError("no kernel projects and rotates here: it needs a Hopper GPU")
        return lambda: project(x, weight, phases, *heads, True, 1.0)

    def copied() -> Call:
        qkv = F.linear(x, weight)[..., : 2 * width].contiguous()
        copy = torch.empty_like(qkv)
        return lambda: copy.copy_(qkv)

    names = ("F.linear", "F.linear, then rotation", "fused", "copy of q and k")
    makers = (linear, rotated_after, fused, copied)
    return dict(zip(names, makers, strict=True))


def _tensors(width: int, bench: Bench) -> tuple[Tensor, Tensor]:
    """x (B, S, C), and a weight (N, C) that keeps its scale."""
    generator = torch.Generator(bench.device).manual_seed(bench.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.bfloat16, device=bench.device)

    return normal(BATCH, SEQ_LEN, width), normal(3 * width, width) * width**-0.5


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A table for each width."""
    for width, cell in result["widths"].items():
        title = f"Projection of {result['tokens']:,} tokens, {width} wide, and the rotation"
        table = new_table(title, "way", "µs", "× F.linear")
        for name, figures in cell["ways"].items():
            times = microseconds(figures["median_us"]), number(figures["of_linear"], ".3f")
            table.add_row(name, *times)
        table.caption = caption("forward, bf16, heads of 64", cell["reasons"])
        yield table
