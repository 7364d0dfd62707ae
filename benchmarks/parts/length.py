"""The forward rotation against the length of the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from benchmarks.bench import Bench
from benchmarks.plots import GREY, Curve, chart, draw
from benchmarks.rotation_times import rotation_times
from benchmarks.shapes import length_shape
from benchmarks.tables import caption, microseconds, new_table, skipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ByLength = Mapping[str, Mapping[int, Mapping[str, Any]]]  # peer -> length -> figures


def length(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Times of the forward pass, and errors, at every length."""
    lengths = sorted(set(settings["lengths"]))
    shapes = [length_shape(n) for n in lengths]
    return {"lengths": lengths, **rotation_times(shapes, settings["peers"], bench, ("forward",))}


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Peers × lengths."""
    cells = dict(zip(result["lengths"], result["cells"].values(), strict=True))
    measured = {n: cell for n, cell in cells.items() if not cell.get("skipped")}
    if measured:
        heads = (f"{n:,}" for n in measured)
        table = new_table("Forward against sequence length, µs", "peer", *heads)
        for peer in dict.fromkeys(peer for cell in measured.values() for peer in cell["forward"]):
            times = (cell["forward"].get(peer, {}) for cell in measured.values())
            table.add_row(peer, *(microseconds(t.get("median_us")) for t in times))
        reasons = {k: v for cell in measured.values() for k, v in cell["reasons"].items()}
        table.caption = caption("4 sequences, 32 heads of q and 8 of k, of 128, bf16", reasons)
        yield table
    yield from skipped(result)


def pictures(result: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Time against length, and the share of a copy's speed."""
    measured = _by_peer(result)
    if measured:
        yield "length-time", _time_figure(measured)
    shares = _shares_of_copy(measured)
    if shares:
        yield "length-copy", _copy_figure(shares)


def _by_peer(result: Mapping[str, Any]) -> ByLength:
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for n, cell in zip(result["lengths"], result["cells"].values(), strict=True):
        for peer, figures in cell.get("forward", {}).items():
            found.setdefault(peer, {})[n] = figures
    return found


def _time_figure(measured: ByLength) -> Figure:
    curves = []
    for name, by_length in measured.items():
        y = [figures["median_us"] for figures in by_length.values()]
        curves.append(Curve(name, list(by_length), y, f"{y[-1]:,.0f}"))
    fig, ax = chart(
        "Rotating q and k, forward",
        "µs for 4 sequences, 32 heads of q and 8 of k, of 128, bf16; lower is better",
    )
    ax.set_yscale("log")
    _lengths_axis(ax, curves)
    draw(ax, curves)
    return fig


def _shares_of_copy(measured: ByLength) -> list[Curve]:
    curves = []
    for name, by_length in measured.items():
        shares = {n: 100 / f["of_copy"] for n, f in by_length.items() if f["of_copy"]}
        if shares and name != "copy":
            y = list(shares.values())
            curves.append(Curve(name, list(shares), y, f"{y[-1]:.0f}"))
    return curves


def _copy_figure(curves: Sequence[Curve]) -> Figure:
    fig, ax = chart(
        "How near to a copy of the same bytes",
        "percent of the speed of copy_ of q and k, forward; higher is better",
    )
    ax.axhline(100, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    ax.set_ylim(0, max(110, *(y * 1.05 for curve in curves for y in curve.y)))
    _lengths_axis(ax, curves)
    draw(ax, curves)
    return fig


def _lengths_axis(ax: Axes, curves: Sequence[Curve]) -> None:
    lengths = sorted({n for curve in curves for n in curve.x})
    ax.set_xscale("log", base=2)
    ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
    ax.minorticks_off()
    ax.set_xlabel("sequence length in tokens", fontsize=9, color=GREY)
