"""The figures of a part as pictures: every curve is named where it ends."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers too. Variants of one are dashed.
_COLOURS = {
    "copy": "#444444",
    "ropewalk": "#0072B2",
    "pytorch": "#E69F00",
    "table": "#009E73",
    "seed": "#D55E00",
    "liger": "#CC79A7",
    "float32 angle": "#E69F00",
    "bfloat16 table": "#D55E00",
}
_GREY = "#666666"
_DPI = 150


class Curve(NamedTuple):
    """A line: its name, its points, and how the last of them is written."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    end: str


def pictures(part: str, result: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of every picture of a part; none where nothing was measured."""
    if part == "accuracy":
        yield "accuracy.png", png(_accuracy(result))
    elif part == "length":
        curves = _length_curves(result)
        if curves:
            yield "length-time.png", png(_length_time(curves))
        shares = _shares_of_copy(curves)
        if shares:
            yield "length-copy.png", png(_length_copy(shares))


def _accuracy(result: Mapping[str, Any]) -> Figure:
    x = result["first_positions"]
    curves = [Curve(name, x, y, f"{y[-1]:.2g}") for name, y in result["relative_error"].items()]
    fig, ax = _figure(
        "How exact the rotation is, far out",
        "relative error of a rotated float32 vector; lower is better",
    )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.minorticks_off()
    ax.set_xlabel("position", fontsize=9, color=_GREY)
    _draw(ax, curves)
    return fig


def _length_curves(result: Mapping[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """peer -> {length: figures}, for what was measured."""
    curves: dict[str, dict[int, dict[str, Any]]] = {}
    for n, cell in zip(result["lengths"], result["cells"].values(), strict=True):
        for peer, figures in cell.get("forward", {}).items():
            curves.setdefault(peer, {})[n] = figures
    return curves


def _length_time(points: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Figure:
    curves = []
    for name, by_length in points.items():
        y = [figures["median_us"] for figures in by_length.values()]
        curves.append(Curve(name, list(by_length), y, f"{y[-1]:,.0f}"))
    fig, ax = _figure(
        "Rotating q and k, forward",
        "µs for 4 sequences, 32 heads of q and 8 of k, of 128, bf16; lower is better",
    )
    ax.set_yscale("log")
    _lengths_axis(ax, curves)
    _draw(ax, curves)
    return fig


def _shares_of_copy(points: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[Curve]:
    curves = []
    for name, by_length in points.items():
        shares = {n: 100 / f["of_copy"] for n, f in by_length.items() if f["of_copy"]}
        if shares and name != "copy":
            y = list(shares.values())
            curves.append(Curve(name, list(shares), y, f"{y[-1]:.0f}"))
    return curves


def _length_copy(curves: Sequence[Curve]) -> Figure:
    fig, ax = _figure(
        "How near to a copy of the same bytes",
        "percent of the speed of copy_ of q and k, forward; higher is better",
    )
    ax.axhline(100, color=_GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    ax.set_ylim(0, max(110, *(y * 1.05 for curve in curves for y in curve.y)))
    _lengths_axis(ax, curves)
    _draw(ax, curves)
    return fig


def _lengths_axis(ax: Axes, curves: Sequence[Curve]) -> None:
    lengths = sorted({n for curve in curves for n in curve.x})
    ax.set_xscale("log", base=2)
    ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
    ax.minorticks_off()
    ax.set_xlabel("sequence length in tokens", fontsize=9, color=_GREY)


def _figure(title: str, what: str) -> tuple[Figure, Axes]:
    # The object's own canvas is Agg: pyplot's global state and backend are left alone.
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8.4, 4.8), dpi=_DPI, facecolor="white")
    ax = fig.add_axes((0.085, 0.12, 0.65, 0.71))
    fig.text(0.085, 0.94, title, fontsize=13, weight="bold")
    fig.text(0.085, 0.885, what, fontsize=9, color=_GREY)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0, labelsize=9)
    return fig, ax


def _draw(ax: Axes, curves: Sequence[Curve]) -> None:
    for name, x, y, _ in curves:
        colour, style = _look(name)
        front = 3 if name.startswith("ropewalk") else 2
        ax.plot(x, y, style, color=colour, linewidth=2, marker="o", markersize=4, zorder=front)
    _label_ends(ax, curves)


def _look(name: str) -> tuple[str, str]:
    """Colour and line style: a variant has its family's colour, dashed."""
    family = name if name in _COLOURS else name.split("-")[0]
    return _COLOURS[family], "-" if name == family else "--"


def _label_ends(ax: Axes, curves: Sequence[Curve]) -> None:
    """Name each curve at the right edge, pushed apart where curves end together."""
    ax.get_xlim(), ax.get_ylim()  # the limits are only now made to fit the data
    axes_of = ax.transData + ax.transAxes.inverted()
    ends = [axes_of.transform((curve.x[-1], curve.y[-1]))[1] for curve in curves]
    order = sorted(range(len(curves)), key=ends.__getitem__)
    heights = _spread([ends[i] for i in order], gap=0.062)
    for height, curve in zip(heights, (curves[i] for i in order), strict=True):
        ax.annotate(
            f"{curve.name} {curve.end}",
            (1, height),
            (9, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=_look(curve.name)[0],
            fontsize=9.5,
            weight="bold",
            annotation_clip=False,
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights pushed up until they are `gap` apart, and those past 1 down again."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    highest = 1.0
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], highest)
        highest = placed[i] - gap
    return placed


def png(fig: Figure) -> bytes:
    """The figure in a palette of 256 colours: all that is drawn here, in a third of the bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image  # matplotlib requires it

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    out = io.BytesIO()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    Image.fromarray(pixels).quantize(256).save(out, "png", optimize=True)
    return out.getvalue()
