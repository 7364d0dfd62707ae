"""What a model finds again far back: passkeys by length and depth, and copies of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.report.figures import labels, style
from evaluation.report.figures.heatmap import heatmap
from evaluation.report.figures.labels import CurveEnd
from evaluation.report.figures.selection import Measured, lengths_of, measured
from evaluation.report.words import nothing_found

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PASSKEYS = {"passkey": "one key", "distractors": "with distractor keys"}
COPIES = {"copy": "a passage seen once, far back", "repeat": "the context is one text, twice"}
_COLUMNS = 4

Styles = Mapping[str, style.Style]


def passkey_figure(result: Mapping[str, Any]) -> Figure:
    """Share of passkeys found against the context, with Wilson intervals, a panel per task."""
    what = "share of trials with every digit right, with 95 % intervals (Wilson); higher is better"
    return _panels(result, PASSKEYS, "accuracy", "Finding a passkey", what)


def copy_figure(result: Mapping[str, Any]) -> Figure:
    """Gain of copy accuracy over the control against the context, a panel per task."""
    what = (
        "accuracy less that after an unrelated text, with 95 % intervals over trials; higher is "
        "better"
    )
    return _panels(result, COPIES, "gain", "Copying natural text", what)


def _panels(
    result: Mapping[str, Any], tasks: Mapping[str, str], key: str, name: str, what: str
) -> Figure:
    """A panel for each task that was measured, side by side; a sentence where nothing was found."""
    found = {task: measured(result, task, key) for task in tasks}
    found = {task: by_method for task, by_method in found.items() if by_method}
    looks = style.styles([*result["methods"], *(n for by in found.values() for n in by)])
    words = {task: nothing_found(task, by_method) for task, by_method in found.items()}
    if all(words.values()):
        return style.saying(name, " ".join(filter(None, words.values())))
    ends = {
        task: [] if words[task] else _ends(by_method, key, looks)
        for task, by_method in found.items()
    }
    count = max(map(len, ends.values()))
    texts = [end.text for task in ends for end in ends[task]]
    room, height = 4.7 + labels.label_width(texts, count), max(3.0, labels.label_height(count))
    fig = style.canvas(max(style.LEAST_WIDTH, 0.6 + room * len(found)), height + 1.65)
    for i, (task, by_method) in enumerate(found.items()):
        ax = style.axes(fig, 0.6 + room * i, 0.62, 4.1, height)
        ax.set_title(tasks[task], fontsize=9, loc="left", color=style.GREY)
        if sentence := words[task]:
            style.say(ax, sentence)
            continue
        _draw_curves(ax, by_method, key, result["train_length"], looks)
        labels.label_ends(fig, ax, ends[task])
    style.title(fig, name, what)
    return fig


def _ends(found: Measured, key: str, looks: Styles) -> list[CurveEnd]:
    last = lengths_of(found)[-1]
    return [
        end
        for name, by_length in found.items()
        for end in labels.end_of(
            style.points_of(list(by_length), [values[key] for values in by_length.values()]),
            name,
            last,
            looks[name],
            style.percent,
        )
    ]


def _draw_curves(ax: Axes, found: Measured, key: str, train_length: int, looks: Styles) -> None:
    for name, by_length in found.items():
        values = [figures[key] for figures in by_length.values()]
        bands = [figures["ci95"] for figures in by_length.values()]
        style.curve(ax, list(by_length), values, bands, looks[name], len(found))
    style.lengths_axis(ax, lengths_of(found), train_length)
    style.mark_train_length(ax, train_length, "")
    style.remove_frame(ax)
    ax.yaxis.set_major_formatter(lambda share, _: style.percent(share))
    if key == "accuracy":
        ax.set_ylim(-0.03, 1.03)
    else:
        ax.axhline(0, color=style.GREY, lw=0.8, zorder=0)
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, -0.02), max(high, 0.1))  # a gain of almost nothing stays small


def depth_figure(result: Mapping[str, Any]) -> Figure:
    """Share of passkeys found by depth and length: a panel per method and task."""
    words = [nothing_found(task, measured(result, task, "depths")) for task in PASSKEYS]
    if not any(
        measured(result, t, "depths") and not w for t, w in zip(PASSKEYS, words, strict=True)
    ):
        return style.saying("Finding a passkey, by depth", " ".join(filter(None, words)))
    panels = _depth_panels(result)
    lengths = sorted({n for _, by_length in panels for n in by_length})
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = 0.75 + 0.32 * max(4, len(lengths)), 2.1
    # Fewer pixels for many panels: the file stays small.
    dpi = style.DPI if len(panels) <= 16 else 110
    fig = style.canvas(max(5.6, 0.5 + columns * width), 0.85 + rows * height, dpi)
    for i, (name, by_length) in enumerate(panels):
        row, column = divmod(i, columns)
        bottom = (rows - 1 - row) * height + 0.3
        ax = style.axes(fig, 0.6 + column * width, bottom, width - 0.45, height - 0.5)
        _draw_depths(ax, name, by_length, lengths, result["train_length"])
        if column == 0:
            ax.set_ylabel("depth of the key", fontsize=7, color=style.GREY)
    what = "percent of trials by where the key stands, 0 the start, and context; blank: none"
    style.title(fig, "Finding a passkey, by depth", what)
    return fig


def _depth_panels(result: Mapping[str, Any]) -> list[tuple[str, Mapping[int, Mapping]]]:
    """Title and figures by context, methods in order, each with its tasks side by side."""
    found = {task: measured(result, task, "depths") for task in PASSKEYS}
    return [
        (name if task == "passkey" else f"{name}, {task}", found[task][name])
        for name in dict.fromkeys(name for by_method in found.values() for name in by_method)
        for task in PASSKEYS
        if name in found[task]
    ]


def _draw_depths(
    ax: Axes, name: str, by_length: Mapping[int, Mapping], lengths: list[int], train_length: int
) -> None:
    depths = next(iter(by_length.values()))["depths"]
    shares = np.full((len(depths), len(lengths)), np.nan)
    for column, n in enumerate(lengths):
        if n in by_length:
            correct, trials = (np.array(by_length[n][key]) for key in ("correct", "trials"))
            shares[:, column] = np.where(trials > 0, correct / np.maximum(trials, 1), np.nan)
    heatmap(ax, shares, fontsize=5.5)
    ax.set_title(name, fontsize=8, weight="bold", loc="left", pad=3)
    ax.set_xticks(range(len(lengths)), [style.short(n) for n in lengths], fontsize=6)
    ax.set_yticks(range(0, len(depths), 2), [f"{d:.1f}" for d in depths[::2]], fontsize=6)
    inside = sum(n <= train_length for n in lengths)
    if 0 < inside < len(lengths):  # training lengths are left of the line
        ax.axvline(inside - 0.5, color="black", lw=1, ls=(0, (3, 2)))
