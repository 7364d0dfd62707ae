"""Bits per byte against context: a panel for each method, a curve for each group of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evaluation.report.figures import labels, style
from evaluation.report.figures.labels import CurveEnd
from evaluation.report.figures.style import Style
from reports.comparison import Comparison
from reports.contexts import NONE, curves, same_targets, train_lengths
from reports.groups import Group
from reports.looks import REST, looks, named, rest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ABREAST = 3  # panels in a row
WIDTH, HEIGHT = 3.4, 2.6  # of a panel, inches
BELOW, ABOVE, LEFT, HEAD = 0.62, 0.32, 0.55, 0.7
ByLength = Mapping[int, float]


def contexts_figure(comparison: Comparison) -> Figure | None:
    """The methods that any two groups share, or that the only one has; None without any."""
    groups = [group for group in comparison.groups if curves(group)]
    found = [curves(group) for group in groups]
    count = Counter(method for one in found for method in one)
    shared = [method for method in count if count[method] > 1 or len(groups) == 1]
    if not shared:
        return None
    shared.sort(key=lambda method: method != NONE)  # as trained comes first
    by_group = dict(zip((id(g) for g in comparison.groups), looks(comparison.groups), strict=True))
    styles = [by_group[id(group)] for group in groups]
    fig, places = _canvas(len(shared), groups, styles)
    drawn = [[*one[m].values()] for m in shared for one in found if m in one]
    limits = _limits(drawn)
    for method, place in zip(shared, places, strict=True):
        at = [one.get(method, {}) for one in found]
        ax = _panel(fig, place, at, groups, styles, train_lengths(groups))
        _name(fig, ax, method, limits, _ends(at, groups, styles))
    what = "bits per byte; lower is better"
    if comparison.has_seeds:
        what += "; means of the seeds"
    if not same_targets(comparison):
        what += "; not all on the same passages"
    if max(map(max, drawn)) > limits[1]:
        what += f"; axis cut off at {limits[1]:.2f}"
    style.title(fig, "Reading past the training length", what + rest(comparison.groups))
    return fig


def _canvas(
    count: int, groups: Sequence[Group], styles: Sequence[Style]
) -> tuple[Figure, list[tuple[float, float, float]]]:
    """A figure, and for each panel where it begins (left, bottom) and how high it is, in inches."""
    told = [group for group, look in zip(groups, styles, strict=True) if look is not REST]
    beside = labels.label_width([f"{named(group)} 0.000" for group in told], len(told))
    height = max(HEIGHT, labels.label_height(len(told)))
    columns = 2 if count == 4 else min(ABREAST, count)
    columns = max(1, min(columns, int(18 / (WIDTH + beside))))
    rows = -(-count // columns)
    wide, high = LEFT + WIDTH + beside, BELOW + height + ABOVE
    fig = style.canvas(columns * wide + 0.1, HEAD + rows * high)
    places = [
        (LEFT + i % columns * wide, (rows - 1 - i // columns) * high + BELOW, height)
        for i in range(count)
    ]
    return fig, places


def _limits(curves: Sequence[list[float]]) -> tuple[float, float]:
    """One vertical axis for all panels, so that methods compare as well."""
    if cut := style.cut_off({str(i): values for i, values in enumerate(curves)}):
        return cut
    low, high = min(map(min, curves)), max(map(max, curves))
    pad = 0.06 * (high - low or 1.0)
    return low - pad, high + pad


def _panel(
    fig: Figure,
    place: tuple[float, float, float],
    at: Sequence[ByLength],
    groups: Sequence[Group],
    styles: Sequence[Style],
    trained: set[int],
) -> Axes:
    left, bottom, height = place
    ax = style.axes(fig, left, bottom, WIDTH, height)
    lengths = sorted({n for one in at for n in one})
    for one, look in reversed(list(zip(at, styles, strict=True))):
        x = sorted(one)
        style.curve(ax, x, [one[n] for n in x], [None] * len(x), look, len(groups))
    if len(trained) == 1:
        style.lengths_axis(ax, lengths, min(trained))
        style.mark_train_length(ax, min(trained))
    else:
        ax.set_xscale("log", base=2)
        ax.set_xticks(lengths, [style.short(n) for n in lengths])
        ax.minorticks_off()
        ax.set_xlabel("context in tokens", fontsize=9, color=style.GREY)
    style.remove_frame(ax)
    return ax


def _ends(
    at: Sequence[ByLength], groups: Sequence[Group], styles: Sequence[Style]
) -> list[CurveEnd]:
    return [
        CurveEnd(max(one), one[max(one)], f"{named(group)} {one[max(one)]:.3f}", look.colour)
        for one, group, look in zip(at, groups, styles, strict=True)
        if one and look is not REST
    ]


def _name(
    fig: Figure, ax: Axes, method: str, limits: tuple[float, float], ends: Sequence[CurveEnd]
) -> None:
    """The vertical axis, and the names of curves and panel."""
    ax.set_ylim(*limits)
    labels.label_ends(fig, ax, ends)
    words = "none: as trained" if method == NONE else method
    ax.set_title(words, fontsize=10, weight="bold", loc="left")
