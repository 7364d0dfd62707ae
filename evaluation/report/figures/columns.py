"""Models side by side: a panel for each method, a curve for each model."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from evaluation.columns import Columns, Row
from evaluation.measures.registry import MEASURES
from evaluation.report.columns.table import head_words, nothing_in
from evaluation.report.figures import style
from evaluation.report.words import better_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 3.3, 2.3  # inches of a panel's axes
_ACROSS, _DOWN = 0.75, 1.05  # inches between panels

Limits = tuple[float, float] | None


def column_figures(columns: Columns) -> dict[str, Callable[[], Figure]]:
    """`columns` for the loss, `columns-MEASURE` for others that have curves, as what draws each."""
    return {
        "columns" if measure == "loss" else f"columns-{measure}": partial(draw, columns, measure)
        for measure, rows in columns.measures.items()
        if measure == "loss" or len({row["length"] for row in rows if row["values"]}) > 1
    }


def draw(columns: Columns, measure: str) -> Figure:
    """One measure against context length, with 95 % bands; the axes of all panels are alike."""
    if nothing := nothing_in(measure, columns.measures[measure], columns):
        return style.saying(f"Models side by side: {measure}", nothing)
    methods = list(columns.protocol["methods"])
    across = 2 if len(methods) in (2, 4) else min(3, len(methods))
    down = -(-len(methods) // across)
    looks = dict(zip(columns.models, style.styles(columns.models).values(), strict=True))
    width = max(0.65 + across * (_WIDTH + _ACROSS), 8.0)
    fig = style.canvas(width, 1.2 + 0.22 * len(looks) + down * (_HEIGHT + _DOWN))
    limits, is_cut = _limits(columns, measure)
    for number, method in enumerate(methods):
        row, column = divmod(number, across)
        left = 0.65 + column * (_WIDTH + _ACROSS)
        bottom = 0.65 + (down - 1 - row) * (_HEIGHT + _DOWN)
        ax = style.axes(fig, left, bottom, _WIDTH, _HEIGHT)
        ax.set_title(method, fontsize=10, weight="bold", loc="left")
        _panel(ax, columns, measure, method, looks, limits)
    cut = f"; axes cut off at {limits[1]:.2f}" if is_cut and limits else ""
    _heading(fig, columns, measure, looks, cut)
    return fig


def _heading(
    fig: Figure, columns: Columns, measure: str, looks: Mapping[str, style.Style], cut: str
) -> None:
    """What is drawn, and each model's name in its colour."""
    p, better = columns.protocol, better_words(measure)
    what, bands = MEASURES[measure].line, "bands: 95 % intervals"
    if measure == "loss":
        what = f"bits per byte of the same {p['target_tokens']} tokens in {p['passages']} passages"
        bands += " over passages; differences between models are known better, see the table"
    what += f"; {better}{cut}" if better else cut
    style.title(fig, "Models side by side", f"{what}\n{bands}")
    width, height = fig.get_size_inches()
    for number, (label, look) in enumerate(looks.items()):
        y = 1 - (0.95 + 0.22 * number) / height
        words = f"●  {head_words(label, columns)}"
        fig.text(0.6 / width, y, words, color=look.colour, fontsize=10, weight="bold", va="center")


def _panel(
    ax: Axes,
    columns: Columns,
    measure: str,
    method: str,
    looks: Mapping[str, style.Style],
    limits: Limits,
) -> None:
    rows = [row for row in columns.measures[measure] if row["method"] == method]
    nothing = nothing_in(measure, rows, columns, "any model")
    if words := nothing or _reason(columns, measure, method, rows):
        return style.say(ax, words)
    lengths = [row["length"] for row in rows]
    for label, look in looks.items():
        values = [row["values"].get(label) for row in rows]
        bands = [row["ci95"].get(label) for row in rows]
        style.curve(ax, lengths, values, bands, look, len(looks))
    trained = {model["train_length"] for model in columns.models.values()}
    style.lengths_axis(ax, lengths, min(trained))
    if len(trained) > 1:
        ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
        ax.set_xlabel("context in tokens", fontsize=9, color=style.GREY)
    for length in trained:
        style.mark_train_length(ax, length, " trained here")
    style.remove_frame(ax)
    if MEASURES[measure].best is max:
        ax.yaxis.set_major_formatter(lambda share, _: style.percent(share))
    if limits:
        ax.set_ylim(*limits)
    _absent(ax, columns, measure, method, rows)
    return None


def _reason(columns: Columns, measure: str, method: str, rows: list[Row]) -> str | None:
    """Why no model was measured under a method; None where one was."""
    if any(row["values"] for row in rows):
        return None
    found = columns.reasons.get(measure, {}).values()
    whys = dict.fromkeys(why for by in found for why in by.get(method, {}).values())
    return f"Nothing measured: {'; '.join(whys)}." if whys else "Nothing measured."


def _absent(ax: Axes, columns: Columns, measure: str, method: str, rows: list[Row]) -> None:
    """Above the axes, the models that could not be measured at any length, and why."""
    absent: dict[str, list[str]] = {}
    for label, by_method in columns.reasons.get(measure, {}).items():
        if method in by_method and not any(label in row["values"] for row in rows):
            absent.setdefault(next(iter(by_method[method].values())), []).append(label)
    lines = [textwrap.fill(f"no {', '.join(who)}: {why}", 52) for why, who in absent.items()]
    at: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "bottom"}
    ax.text(1, 1.02, "\n".join(lines), fontsize=7, color=style.GREY, **at)


def _limits(columns: Columns, measure: str) -> tuple[Limits, bool]:
    """Where the axes of all panels end, and whether curves go on beyond that."""
    curves: dict[str, list[float]] = {}
    ends: list[float] = []
    for row in columns.measures[measure]:
        for label, value in row["values"].items():
            curves.setdefault(f"{label} {row['method']}", []).append(value)
            ends += [value, *(row["ci95"][label] or ())]
    if not ends:
        return None, False
    if measure == "loss" and (cut := style.cut_off(curves)):
        return cut, True
    room = 0.05 * (max(ends) - min(ends)) or 0.05
    return (min(ends) - room, max(ends) + room), False
