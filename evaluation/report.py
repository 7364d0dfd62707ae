"""What is left of an extrapolation in a directory: files, pictures, TensorBoard curves.

Lower bits per byte are better throughout. matplotlib and tensorboard are imported by the functions
that draw and log, so that a command's start does not wait for them.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.extrapolation import Extrapolation
from evaluation.files import write_atomically, write_files
from evaluation.scalars import log_scalars
from evaluation.tables import scored, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_TAG = "extrapolation/figure"

# Okabe and Ito's colours: told apart by colour-blind readers too.
_COLOURS = ("#444444", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
_DASHES = ("-", "--", ":", "-.")
_GREY = "#666666"
_DPI = 150


def write_report(result: Extrapolation, directory: str | Path) -> None:
    """Write extrapolation.json, .csv, .md and the pictures, each whole or not at all."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_files(result, directory)
    write_figures(asdict(result), directory)


def write_figures(result: dict[str, Any], directory: Path) -> None:
    """Draw what there is to see of a result (the contents of extrapolation.json)."""
    write_atomically(directory / "extrapolation.png", _png(figure(Extrapolation(**result))))


def log_tensorboard(result: Extrapolation, directory: str | Path) -> None:
    """Log each method as a sub-run `directory/<method>`, so that one chart overlays them.

    The step is the context length. Pictures go to the sub-run `extrapolation`. Logging again into
    the same directory replaces what TensorBoard shows.
    """
    log_scalars(result, Path(directory))
    log_figures(asdict(result), Path(directory))


def log_figures(result: dict[str, Any], directory: Path) -> None:
    """The pictures of a result (the contents of extrapolation.json) as TensorBoard images."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(directory / "extrapolation"), purge_step=0) as writer:
        pixels = _pixels(figure(Extrapolation(**result)))
        writer.add_image(FIGURE_TAG, pixels, 0, dataformats="HWC")


def figure(result: Extrapolation) -> Figure:
    """Bits per byte against context length, a curve and its 95 % band per method."""
    # The object's own canvas is Agg: pyplot's global state and backend are left alone.
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.6, 4.6), dpi=_DPI, facecolor="white")
    longest = max(map(len, result.methods))  # its name stands right of the axes
    ax = fig.add_axes((0.085, 0.135, 0.765 - 0.0125 * max(0, longest - 6), 0.69))
    ends = []
    for (name, values), style in zip(result.methods.items(), _styles(result), strict=True):
        ends += _draw_method(ax, result.lengths, values, name, *style)
    _dress(ax, result)
    _label_ends(ax, ends)
    fig.text(0.085, 0.94, "Reading past the training length", fontsize=13, weight="bold")
    what = f"bits per byte of the same {scored(result)}, with 95 % intervals; lower is better"
    fig.text(0.085, 0.885, what, fontsize=9, color=_GREY)
    return fig


def _styles(result: Extrapolation) -> list[tuple[str, str]]:
    """A colour and a line style for each method: other dashes once the colours are used up."""
    pairs = [(colour, dashes) for dashes in _DASHES for colour in _COLOURS]
    return [pairs[i % len(pairs)] for i in range(len(result.methods))]


def _draw_method(
    ax: Axes, lengths: list[int], values: dict[str, list], name: str, colour: str, dashes: str
) -> list[tuple[float, float, str, str]]:
    """Draw one curve; returns where it ends and what to write there, or nothing if it is empty."""
    points = [(n, b) for n, b in zip(lengths, values["bpb"], strict=True) if b is not None]
    if not points:
        return []
    bands = [(n, *ci) for n, ci in zip(lengths, values["ci95"], strict=True) if ci is not None]
    if bands:
        ax.fill_between(*zip(*bands, strict=True), color=colour, alpha=0.10, linewidth=0)
    ax.plot(*zip(*points, strict=True), color=colour, ls=dashes, lw=2, marker="o", markersize=5)
    return [(*points[-1], f"{name} {points[-1][1]:.2f}", colour)]


def _dress(ax: Axes, result: Extrapolation) -> None:
    ax.set_xscale("log", base=2)
    labels = [f"{n:,}\n{times(n, result.train_length)}×" for n in result.lengths]
    ax.set_xticks(result.lengths, labels)
    ax.minorticks_off()
    shortest = min(result.lengths[0], result.train_length)
    longest = max(result.lengths[-1], result.train_length)
    ax.set_xlim(shortest / 1.15, longest * 1.06)
    ax.axvline(result.train_length, color=_GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    ax.text(
        result.train_length,
        0.985,
        " trained here",
        transform=ax.get_xaxis_transform(),
        color=_GREY,
        fontsize=9,
        va="top",
    )
    ax.set_xlabel("context in tokens, and in training lengths", fontsize=9, color=_GREY)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(length=0, labelsize=9)


def _label_ends(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Name each curve at its end instead of in a legend, pushed apart where curves end together."""
    low, high = ax.get_ylim()
    size = min(10, 130 / max(1, len(ends)))  # points: many names are written smaller
    gap = 0.0052 * size * (high - low)
    taken: dict[float, float] = {}  # x -> the height of the last label written there
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        taken[x] = max(y, taken.get(x, -np.inf) + gap)
        ax.annotate(
            text,
            (x, taken[x]),
            (9, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=size,
            weight="bold",
            annotation_clip=False,
        )


def _png(fig: Figure) -> bytes:
    from PIL import Image  # matplotlib requires it

    out = io.BytesIO()
    # A palette holds all that is drawn here, in a third of the bytes.
    Image.fromarray(_pixels(fig)).quantize(256).save(out, "png", optimize=True)
    return out.getvalue()


def _pixels(fig: Figure) -> np.ndarray:
    """The drawn figure, uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]
