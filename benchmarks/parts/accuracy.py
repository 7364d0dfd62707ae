"""How far from exact the rotation is, from position 1 to 2^40, and two ways to compute angles.

Shapes: N tokens, H heads, D head_dim, P pairs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from rich.console import RenderableType
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.exact_rotation import exact_cos_sin, relative_errors, rotate_pairs
from benchmarks.plots import GREY, Curve, chart, draw
from benchmarks.shapes import THETA
from benchmarks.tables import caption, new_table
from kernels import inverse_frequencies, rope_phases, rope_triton

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPONENTS = range(41)
NEIGHBOURS = 16  # positions from each power of two on: floats hold the power itself exactly
N_HEADS = 4
HEAD_DIM = 128
SHOWN_EXPONENTS = (0, 10, 17, 20, 24, 31, 40)  # in the table

HOW = (
    f"relative error ‖y - exact‖ / ‖exact‖ of float32 heads of {HEAD_DIM}, the greatest of "
    f"{NEIGHBOURS} positions x {N_HEADS} heads from each power of two on; exact "
    "angles by integers; angle_error in radians, float32 roundings of the result included"
)


def accuracy(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Error against position: ropewalk, a float32 angle, and bfloat16 tables of such angles."""
    bench.progress.expect(1)
    bench.progress.step("positions up to 2^40")
    firsts = [2**n for n in EXPONENTS]
    positions = torch.tensor([first + i for first in firsts for i in range(NEIGHBOURS)])  # (N,)
    inv_freq = inverse_frequencies(HEAD_DIM, THETA)
    cos, sin = exact_cos_sin(positions.tolist(), inv_freq.tolist())  # (N, P)
    generator = torch.Generator().manual_seed(bench.seed)
    x = torch.randn(len(positions), N_HEADS, HEAD_DIM, generator=generator)
    exact = rotate_pairs(x.double(), cos, sin, interleaved=True)
    arguments = (x.to(bench.device), positions.to(bench.device), inv_freq.to(bench.device))
    result: dict[str, Any] = {"how": HOW, "first_positions": firsts, "relative_error": {}}
    result["relative_error"] = {
        name: _greatest(relative_errors(rotated, exact))
        for name, rotated in float32_angles(*arguments).items()
    }
    if importlib.util.find_spec("triton") is None:
        return result | {"reasons": {"ropewalk": "triton is not installed"}}
    ours = {"ropewalk": _greatest(relative_errors(_ours(*arguments), exact))}
    result["relative_error"] = ours | result["relative_error"]
    # The pair (1, 0) becomes the cosine and sine themselves.
    ones = torch.tensor([1.0, 0.0]).repeat(len(positions), 1, HEAD_DIM // 2)
    angles = _angle_errors(_ours(ones.to(bench.device), *arguments[1:]), cos, sin)
    return result | {"angle_error": {"ropewalk": _greatest(angles)}, "reasons": {}}


def _ours(x: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
    """x (N, H, D) by the Triton kernel, on a CPU in Triton's interpreter."""
    x = x[None]
    return rope_triton(x, x[:, :, :1], positions=positions, phases=rope_phases(inv_freq))[0][0]


def float32_angles(x: Tensor, positions: Tensor, inv_freq: Tensor) -> dict[str, Tensor]:
    """x (N, H, D) by angles that are float32 products, and by bfloat16 tables of these."""
    angles = positions.float()[:, None] * inv_freq.float()
    cos, sin = angles.cos(), angles.sin()
    tables = (cos.bfloat16().float(), sin.bfloat16().float())
    return {
        "float32 angle": rotate_pairs(x, cos, sin, interleaved=True),
        "bfloat16 table": rotate_pairs(x, *tables, interleaved=True),
    }


def _angle_errors(rotated: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Radians (N, P) between (cos, sin) as rotated (N, 1, D) has them and as they are."""
    ours_cos, ours_sin = rotated[:, 0].cpu().double().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.atan2(ours_sin * cos - ours_cos * sin, ours_cos * cos + ours_sin * sin).abs()


def _greatest(errors: Tensor) -> list[float]:
    """Of every power's neighbours: (N, anything) -> a number for each power."""
    return errors.reshape(len(EXPONENTS), -1).amax(dim=1).tolist()


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Errors at some of the positions."""
    heads = (f"2^{exponent}" for exponent in SHOWN_EXPONENTS)
    table = new_table("Relative error of the rotated vector, by position", "angles", *heads)
    for name, errors in result["relative_error"].items():
        table.add_row(name, *(f"{errors[exponent]:.1e}" for exponent in SHOWN_EXPONENTS))
    for name, errors in result.get("angle_error", {}).items():
        row = (f"{errors[exponent]:.1e}" for exponent in SHOWN_EXPONENTS)
        table.add_row(f"{name}, radians", *row)
    table.caption = caption(
        "float32 heads of 128; radians: error of the angle, float32 roundings included",
        result["reasons"],
    )
    yield table


def pictures(result: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Error against position."""
    yield "accuracy", _figure(result)


def _figure(result: Mapping[str, Any]) -> Figure:
    x = result["first_positions"]
    curves = [Curve(name, x, y, f"{y[-1]:.2g}") for name, y in result["relative_error"].items()]
    fig, ax = chart(
        "How exact the rotation is, far out",
        "relative error of a rotated float32 vector; lower is better",
    )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.minorticks_off()
    ax.set_xlabel("position", fontsize=9, color=GREY)
    draw(ax, curves)
    return fig
