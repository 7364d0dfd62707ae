"""What a person sees of an extrapolation: files, a terminal table, a figure, TensorBoard curves.

Lower bits per byte are better throughout. matplotlib and tensorboard are imported by the functions
that draw and log, so that a command's start does not wait for them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from evaluation.extrapolation import Extrapolation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TAG = "extrapolation/bpb"
FIGURE_TAG = "extrapolation/figure"
CSV_FIELDS = ("method", "length", "nll", "bpb", "ci95_low", "ci95_high", "reason")

# Okabe and Ito's colours: told apart by colour-blind readers too.
_COLOURS = ("#444444", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
_DASHES = ("-", "--", ":", "-.")
_GREY = "#666666"
_DPI = 150


def write_report(result: Extrapolation, directory: str | Path) -> None:
    """Write extrapolation.json, .csv and .png into `directory`, each whole or not at all."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(result), indent=2, allow_nan=False) + "\n"
    _write(directory / "extrapolation.json", text.encode())
    _write(directory / "extrapolation.csv", _csv(result).encode())
    _write(directory / "extrapolation.png", _png(figure(result)))


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _csv(result: Extrapolation) -> str:
    """One line per method and length; an empty field is a figure that was not measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for name, values in result.methods.items():
        columns = zip(result.lengths, values["nll"], values["bpb"], values["ci95"], strict=True)
        for length, nll, bpb, ci95 in columns:
            low, high = ci95 or (None, None)
            reason = result.reasons.get(name, {}).get(str(length))
            writer.writerow([name, length, nll, bpb, low, high, reason])
    return out.getvalue()


def table(result: Extrapolation) -> Table:
    """Bits per byte, methods × lengths; the best method of each length is bold with a star."""
    grid = Table(title="Bits per byte of the same text, with growing context")
    grid.caption = "\n".join(_captions(result))
    grid.caption_justify = "left"
    grid.add_column("method")
    for length in result.lengths:
        grid.add_column(f"{length} ({_times(length, result.train_length)}x)", justify="right")
    best = [_best(result, i) for i in range(len(result.lengths))]
    for name, values in result.methods.items():
        cells = [_mark(bpb, name in best[i]) for i, bpb in enumerate(values["bpb"])]
        grid.add_row(Text(name), *cells)
    return grid


def legend(result: Extrapolation) -> str:
    """A line on what each method does."""
    lines = result.protocol["methods"]
    width = max(map(len, lines), default=0)
    return "\n".join(f"{name:{width}}  {line}" for name, line in lines.items())


def _best(result: Extrapolation, index: int) -> set[str]:
    """The methods with the lowest loss at a length; none where nothing sets them apart."""
    measured = {name: values["bpb"][index] for name, values in result.methods.items()}
    measured = {name: bpb for name, bpb in measured.items() if bpb is not None}
    if len(set(measured.values())) < 2:
        return set()
    return {name for name, bpb in measured.items() if bpb == min(measured.values())}


def _mark(bpb: float | None, is_best: bool) -> Text:
    if bpb is None:
        return Text("-", style="dim")
    return Text(f"* {bpb:.3f}", style="bold green") if is_best else Text(f"{bpb:.3f}")


def _captions(result: Extrapolation) -> Iterator[str]:
    p = result.protocol
    yield "* best of its length; lower is better"
    yield f"{_scored(result)}; trained at {result.train_length}"
    unrun: dict[str, dict[str, list[str]]] = {}  # why -> length -> methods
    for name, reasons in result.reasons.items():
        for length, why in reasons.items():
            unrun.setdefault(why, {}).setdefault(length, []).append(name)
    for why, by_length in unrun.items():
        for names in dict.fromkeys(map(tuple, by_length.values())):
            lengths = ", ".join(n for n, here in by_length.items() if tuple(here) == names)
            whose = "" if len(names) == len(result.methods) else f" ({', '.join(names)})"
            yield f"- at {lengths}{whose}: {why}"
    if p["passages"] < p["passages_asked"] and p["passages"]:
        yield f"({p['passages_asked']} passages asked; the text holds {p['passages']})"


def _scored(result: Extrapolation) -> str:
    p = result.protocol
    return f"{p['target_tokens']} tokens in each of {p['passages']} passages"


def _times(length: int, train_length: int) -> str:
    return f"{length / train_length:.3g}"


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
    what = f"bits per byte of the same {_scored(result)}, with 95 % intervals; lower is better"
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
    labels = [f"{n:,}\n{_times(n, result.train_length)}×" for n in result.lengths]
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


def log_tensorboard(result: Extrapolation, directory: str | Path) -> None:
    """Log each method as a sub-run `directory/<method>`, so that one chart overlays them.

    The step is the context length. The figure goes to the sub-run `extrapolation`. Logging again
    into the same directory replaces what TensorBoard shows.
    """
    from torch.utils.tensorboard import SummaryWriter

    directory = Path(directory)
    for name, values in result.methods.items():
        with SummaryWriter(str(directory / name), purge_step=0) as writer:
            for length, bpb in zip(result.lengths, values["bpb"], strict=True):
                if bpb is not None:
                    writer.add_scalar(TAG, bpb, length)
    with SummaryWriter(str(directory / "extrapolation"), purge_step=0) as writer:
        writer.add_image(FIGURE_TAG, _pixels(figure(result)), 0, dataformats="HWC")


def _pixels(fig: Figure) -> np.ndarray:
    """The drawn figure, uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]
