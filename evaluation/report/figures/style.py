"""What all figures share: colours, axes, titles and curves.

matplotlib is imported where it is used, so that a command's start does not wait for it, and
figures are objects with a canvas of their own: pyplot's global state is left alone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from evaluation.report.comparison import times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, then Paul Tol's: told apart by colour-blind readers too.
COLOURS = (
    *("#444444", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499"),
)
GREY = "#666666"
DPI = 150
LEAST_WIDTH = 8.2  # inches: a subtitle of 100 letters
_DASHES = (("-", "--"), (":", "-."))  # without and with log-n, then once more
_LOGN = "+logn"


class Style(NamedTuple):
    """How a method is drawn, in every figure alike."""

    colour: str
    dashes: str


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """A colour for each method, shared with the same method with log-n, which is dashed.

    Where the colours are used up, they start again with other dashes.
    """
    plain = {name: "none" if name == "logn" else name.removesuffix(_LOGN) for name in methods}
    place = {base: i for i, base in enumerate(dict.fromkeys(plain.values()))}
    found = {}
    for name, base in plain.items():
        again, colour = divmod(place[base], len(COLOURS))
        dashes = _DASHES[again % len(_DASHES)][name == "logn" or name.endswith(_LOGN)]
        found[name] = Style(COLOURS[colour], dashes)
    return found


def canvas(width: float, height: float, dpi: int = DPI) -> Figure:
    """An empty white figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, facecolor="white")


def title(fig: Figure, text: str, what: str, left: float = 0.6) -> None:
    """Say above the axes what is drawn, and how to read it; `left` in inches."""
    width, height = fig.get_size_inches()
    fig.text(left / width, 1 - 0.28 / height, text, fontsize=13, weight="bold", va="center")
    fig.text(left / width, 1 - 0.44 / height, what, fontsize=9, color=GREY, va="top")


def axes(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes placed in inches."""
    w, h = fig.get_size_inches()
    return fig.add_axes((left / w, bottom / h, width / w, height / h))


def remove_frame(ax: Axes) -> None:
    """Take away what is not data, but for thin horizontal grid lines."""
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0, which="both", labelsize=9)


def lengths_axis(ax: Axes, lengths: Sequence[int], train_length: int) -> None:
    """A log axis with a tick for every context, in tokens and in training lengths."""
    ax.set_xscale("log", base=2)
    shown = lengths[:: -(-len(lengths) // 9)]  # more of them would overlap
    ax.set_xticks(shown, [f"{n:,}\n{times(n, train_length)}×" for n in shown])
    ax.minorticks_off()
    ax.set_xlim(min(lengths[0], train_length) / 1.15, max(lengths[-1], train_length) * 1.06)
    ax.set_xlabel("context in tokens, and in training lengths", fontsize=9, color=GREY)


def mark_train_length(ax: Axes, train_length: int, text: str = " trained here") -> None:
    """A vertical line at the training length."""
    ax.axvline(train_length, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    at = ax.get_xaxis_transform()
    ax.text(train_length, 0.985, text, transform=at, color=GREY, fontsize=9, va="top")


def points_of(x: Sequence[float], y: Sequence) -> list[tuple[float, float]]:
    """The points (x, y) whose y is not None."""
    return [(a, b) for a, b in zip(x, y, strict=True) if b is not None]


def curve(
    ax: Axes, x: Sequence[float], y: Sequence, bands: Sequence, style: Style, count: int
) -> None:
    """Draw a curve, one of `count`, and its intervals, leaving out what is None."""
    points = points_of(x, y)
    if not points:
        return
    rows = [(a, *band) for a, band in zip(x, bands, strict=True) if band is not None]
    if rows:
        at, low, high = zip(*rows, strict=True)
        faint = min(0.08, 0.3 / count)  # where all bands overlap, the curves still show
        ax.fill_between(at, low, high, color=style.colour, alpha=faint, linewidth=0)
    ax.plot(
        *zip(*points, strict=True),
        color=style.colour,
        ls=style.dashes,
        lw=1.8,
        marker="o",
        markersize=5 if len(points) < 12 else 3,
    )


def saying(name: str, sentence: str) -> Figure:
    """A figure with a title and a sentence: what stands where there is nothing to be drawn."""
    fig = canvas(7, 2)
    fig.text(0.6 / 7, 1 - 0.28 / 2, name, fontsize=13, weight="bold", va="center")
    say(axes(fig, 0.6, 0.3, 5.8, 1.15), sentence)
    return fig


def say(ax: Axes, sentence: str) -> None:
    """A sentence in the place of curves: axes in which there is nothing to be seen."""
    fig = ax.get_figure(root=True)
    assert fig is not None
    inches = ax.get_position().width * fig.get_size_inches()[0]
    text = textwrap.fill(sentence, max(20, int(inches / 0.085)))
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=10)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color("#dddddd")


def percent(share: float) -> str:
    """A share as a whole percentage, or with a decimal where 100% would not be all.

    Zero has no sign.
    """
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return f"{math.floor(1000 * share) / 10:.1f}%"
    return f"{whole}%"


def cut_off(curves: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """The limits (low, top) of an axis on which the better curves (two in five) are told apart.

    None where the axis can show all curves whole and they are told apart too.
    """
    highest = sorted(max(values) for values in curves.values() if len(values))
    if len(highest) < 4:
        return None
    low = min(min(values) for values in curves.values() if len(values))
    # Half as much again, to show how the others rise; what is almost flat is not magnified.
    span = max(1.5 * (highest[-(-2 * (len(highest) - 1) // 5)] - low), 0.08 * abs(low))
    if highest[-1] - low < 1.4 * span:
        return None
    return low - 0.06 * span, low + span


def short(length: int) -> str:
    """A length in few letters: 512, 32k (of 1024)."""
    return f"{length // 1024}k" if length >= 1024 and length % 1024 == 0 else str(length)
