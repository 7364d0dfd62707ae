"""Names at the ends of curves, right of the axes, pushed apart where curves end together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evaluation.report.figures.style import LEAST_WIDTH, Style, axes, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class CurveEnd(NamedTuple):
    """The end of a curve and what is written there."""

    x: float
    y: float
    text: str
    colour: str


def end_of(
    points: Sequence[tuple[float, float]],
    name: str,
    last: float,
    style: Style,
    form: Callable[[float], str] = "{:.2f}".format,
) -> list[CurveEnd]:
    """The end of a curve with its name and value; where it ends before the others, that too."""
    if not points:
        return []
    x, y = points[-1]
    at = "" if x >= last else f" at {x:,.0f}"
    return [CurveEnd(x, y, f"{name} {form(y)}{at}", style.colour)]


def chart(ends: Sequence[CurveEnd], above: float = 0) -> tuple[Figure, Axes]:
    """One pair of axes with room for these labels on its right, and as high as they need.

    `above`: inches more above the axes than a subtitle of two lines needs.
    """
    width, height = 5.6, max(3.2, label_height(len(ends)))
    right = label_width([end.text for end in ends], len(ends))
    fig = canvas(max(LEAST_WIDTH, 0.6 + width + right), height + 1.4 + above)
    return fig, axes(fig, 0.6, 0.62, width, height)


def label_width(texts: Iterable[str], count: int) -> float:
    """Inches that these texts take right of the axes, where there are `count` labels."""
    return 0.0083 * label_size(count) * max((len(text) + 2 for text in texts), default=0) + 0.3


def label_height(count: int) -> float:
    """Inches that so many labels need, one above the other."""
    return 1.4 * label_size(count) / 72 * count


def label_size(count: int) -> float:
    """Points: many names are written smaller."""
    return 10 if count < 8 else 8.5


def label_ends(fig: Figure, ax: Axes, ends: Sequence[CurveEnd]) -> None:
    """Name each curve right of the axes, pushed apart where they end together.

    A thin line leads from a curve's end to its name, unless the name is far off: there its colour
    must do. A curve that has left the axes by their top is named there, with an arrow.
    """
    if not ends:
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)  # what is drawn here does not move them
    size = label_size(len(ends))
    inches = ax.get_position().height * fig.get_size_inches()[1]
    gap = 1.35 * size / 72 / inches  # of the axes' height
    upward = sorted(ends, key=lambda end: end.y)
    places = ax.transData.transform([(end.x, np.clip(end.y, low, high)) for end in upward])
    places = ax.transAxes.inverted().transform(places)  # (ends, 2)
    for end, (x, y), at in zip(upward, places, spread(places[:, 1], gap, 0, 1), strict=True):
        _label(ax, end, at, size, end.y > high)
        if end.y <= high and abs(at - y) < 5 * gap:
            line: dict[str, Any] = {"color": end.colour, "lw": 0.7, "alpha": 0.6}
            line |= {"clip_on": False, "zorder": 1}
            ax.plot([x, 1.0, 1.022], [y, y, at], transform=ax.transAxes, **line)


def _label(ax: Axes, end: CurveEnd, height: float, size: float, cut: bool) -> None:
    ax.annotate(
        f"{end.text} ↑" if cut else end.text,
        (1.0, height),
        (10, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        va="center",
        color=end.colour,
        fontsize=size,
        weight="bold",
        annotation_clip=False,
    )


def spread(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """The ascending heights nearest to `wanted` (ascending) that keep a gap, from low to high.

    Nearest means by least squares: neighbours that collide move as one block (pool adjacent
    violators). Where there is no room for the gap, the gap shrinks.
    """
    n = len(wanted)
    gap = min(gap, (high - low) / max(1, n - 1))
    steps = gap * np.arange(n)
    blocks: list[list[float]] = []  # [sum, count] of what each block wants, less the steps
    for value in np.asarray(wanted, dtype=float) - steps:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    means = np.concatenate([[total / count] * int(count) for total, count in blocks])
    return np.clip(means, low, max(low, high - steps[-1])) + steps
