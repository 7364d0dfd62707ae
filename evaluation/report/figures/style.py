"""What all figures share: colours, titles, labels at the ends of curves, pixels and PNG bytes.

matplotlib is imported where it is used, so that a command's start does not wait for it, and
figures are objects with a canvas of their own: pyplot's global state is left alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluation.report.tables import times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, then Paul Tol's: told apart by colour-blind readers too.
COLOURS = (
    *("#444444", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499"),
)
_SHADES = ("#fbf3e6", "#f4c887", "#78b7c5", "#0072B2", "#063a63")
GREY = "#666666"
DPI = 150
MOST_BYTES = 300_000  # of a PNG
_DASHES = (("-", "--"), (":", "-."))  # without and with log-n, then once more
_LOGN = "+logn"


class Style(NamedTuple):
    """How a method is drawn, in every figure alike."""

    colour: str
    dashes: str


class End(NamedTuple):
    """The end of a curve and what is written there."""

    x: float
    y: float
    text: str
    colour: str


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


def chart(ends: Sequence[End], plot: float = 5.6) -> tuple[Figure, Axes]:
    """One pair of axes with room for these labels on its right, and as high as they need."""
    height = max(3.2, label_height(len(ends)))
    fig = canvas(0.6 + plot + label_width([end.text for end in ends], len(ends)), height + 1.4)
    return fig, axes(fig, 0.6, 0.62, plot, height)


def title(fig: Figure, text: str, what: str, left: float = 0.6) -> None:
    """Say above the axes what is drawn, and how to read it; `left` in inches."""
    width, height = fig.get_size_inches()
    fig.text(left / width, 1 - 0.28 / height, text, fontsize=13, weight="bold", va="center")
    fig.text(left / width, 1 - 0.53 / height, what, fontsize=9, color=GREY, va="center")


def axes(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes placed in inches."""
    w, h = fig.get_size_inches()
    return fig.add_axes((left / w, bottom / h, width / w, height / h))


def undress(ax: Axes, grid: str = "y") -> None:
    """Take away what is not data, but for thin grid lines."""
    ax.grid(axis=grid, color="#e6e6e6", linewidth=0.8)
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


def trained_here(ax: Axes, train_length: int, text: str = " trained here") -> None:
    """A vertical line at the training length."""
    ax.axvline(train_length, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    at = ax.get_xaxis_transform()
    ax.text(train_length, 0.985, text, transform=at, color=GREY, fontsize=9, va="top")


def known(x: Sequence[float], y: Sequence) -> list[tuple[float, float]]:
    """The points (x, y) whose y is not None."""
    return [(a, b) for a, b in zip(x, y, strict=True) if b is not None]


def curve(
    ax: Axes, x: Sequence[float], y: Sequence, bands: Sequence, style: Style, count: int
) -> None:
    """Draw a curve, one of `count`, and its intervals, leaving out what is None."""
    points = known(x, y)
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


def percent(share: float) -> str:
    """A share as a whole percentage, or with a decimal where 100% would not be all.

    Zero has no sign.
    """
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return f"{math.floor(1000 * share) / 10:.1f}%"
    return f"{whole}%"


def top_of(curves: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """Where to cut an axis off, so that the better curves (two in five) are told apart.

    The limits (low, top), or None where all curves fit without being pressed flat.
    """
    highest = sorted(max(values) for values in curves.values() if len(values))
    if len(highest) < 4:
        return None
    low = min(min(values) for values in curves.values() if len(values))
    # Room above these for the others' shapes; what is almost flat is not magnified.
    span = max(1.5 * (highest[-(-2 * (len(highest) - 1) // 5)] - low), 0.08 * abs(low))
    if highest[-1] - low < 1.4 * span:
        return None
    return low - 0.06 * span, low + span


def label_width(texts: Iterable[str], count: int) -> float:
    """Inches that these texts take right of the axes, where there are `count` labels."""
    return 0.0078 * label_size(count) * max((len(text) + 2 for text in texts), default=0) + 0.3


def label_height(count: int) -> float:
    """Inches that so many labels need, one above the other."""
    return 1.4 * label_size(count) / 72 * count


def label_size(count: int) -> float:
    """Points: many names are written smaller."""
    return 10 if count < 8 else 8.5


def end_of(
    points: Sequence[tuple[float, float]],
    name: str,
    last: float,
    style: Style,
    form: Callable[[float], str] = "{:.2f}".format,
) -> list[End]:
    """The end of a curve with its name and value; where it ends before the others, that too."""
    if not points:
        return []
    x, y = points[-1]
    at = "" if x >= last else f" at {x:,.0f}"
    return [End(x, y, f"{name} {form(y)}{at}", style.colour)]


def label_ends(ax: Axes, ends: Sequence[End]) -> None:
    """Name each curve right of the axes, pushed apart where they end together.

    A thin line leads from a curve's end to its name, unless that is far off and its colour must
    do; a curve that has left the axes by their top is named there, with an arrow.
    """
    if not ends:
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)  # what is drawn here does not move them
    size = label_size(len(ends))
    inches = ax.get_position().height * ax.figure.get_size_inches()[1]
    gap = 1.35 * size / 72 / inches  # of the axes' height
    upward = sorted(ends, key=lambda end: end.y)
    places = ax.transData.transform([(end.x, np.clip(end.y, low, high)) for end in upward])
    places = ax.transAxes.inverted().transform(places)  # (ends, 2)
    for end, (x, y), at in zip(upward, places, spread(places[:, 1], gap, 0, 1), strict=True):
        _label(ax, end, at, size, end.y > high)
        if end.y <= high and abs(at - y) < 5 * gap:
            line = {"color": end.colour, "lw": 0.7, "alpha": 0.6, "clip_on": False, "zorder": 1}
            ax.plot([x, 1.0, 1.022], [y, y, at], transform=ax.transAxes, **line)


def _label(ax: Axes, end: End, height: float, size: float, cut: bool) -> None:
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

    Nearest in the mean of squares: neighbours that collide move as one block (pool adjacent
    violators). Where there is no room for the gap, it shrinks.
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


def pixels(fig: Figure) -> np.ndarray:
    """The drawn figure, uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    agg = FigureCanvasAgg(fig)
    agg.draw()
    return np.asarray(agg.buffer_rgba())[:, :, :3]


def png(fig: Figure) -> bytes:
    """The drawn figure as a PNG with a palette: all that is drawn in a third of the bytes.

    The palette shrinks while the file is above `MOST_BYTES`, to 16 colours at the least.
    """
    from PIL import Image  # matplotlib requires it

    image = Image.fromarray(pixels(fig))
    for colours in (256, 64, 32, 16):
        out = io.BytesIO()
        image.quantize(colours).save(out, "png", optimize=True)
        if out.tell() <= MOST_BYTES:
            break
    return out.getvalue()


def heatmap(ax: Axes, shares: np.ndarray, fontsize: float) -> None:
    """Shares from 0 to 1 as colours, light to dark, and in percent; 0 % is blank, NaN grey."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("shares", _SHADES).with_extremes(bad="#eeeeee")
    ax.imshow(np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:  # not where it is NaN either
            dark = "white" if share > 0.6 else "black"
            text = f"{100 * share:.0f}"
            at = {"ha": "center", "va": "center"}
            ax.text(column, row, text, color=dark, fontsize=fontsize, **at)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def short(length: int) -> str:
    """A length in few letters: 512, 32k (of 1024)."""
    return f"{length // 1024}k" if length >= 1024 and length % 1024 == 0 else str(length)
