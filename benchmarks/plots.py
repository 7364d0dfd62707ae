"""What the pictures of all parts share: every curve is named where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

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
GREY = "#666666"
_DPI = 150


class Curve(NamedTuple):
    """A line: its name, its points, and how the last of them is written."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    end: str


def chart(title: str, what: str) -> tuple[Figure, Axes]:
    """One pair of axes with room for names on its right; `what` says how to read it."""
    # The object's own canvas is Agg: pyplot's global state and backend are left alone.
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8.4, 4.8), dpi=_DPI, facecolor="white")
    ax = fig.add_axes((0.085, 0.12, 0.65, 0.71))
    fig.text(0.085, 0.94, title, fontsize=13, weight="bold")
    fig.text(0.085, 0.885, what, fontsize=9, color=GREY)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0, labelsize=9)
    return fig, ax


def draw(ax: Axes, curves: Sequence[Curve]) -> None:
    """Draw the curves and their names."""
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
