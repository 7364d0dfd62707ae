"""Training and validation loss against steps: a curve for each group of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluation.report.figures import labels, style
from evaluation.report.figures.labels import CurveEnd
from evaluation.report.figures.style import Style
from reports.comparable import BPB, LOSS, UNITS
from reports.comparison import Comparison
from reports.groups import Group
from reports.looks import REST, looks, named, rest
from reports.run_files import RunFiles
from reports.table import FORMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN = "train/loss"
BINS = 60  # points of a training curve: more are noise
EARLY = 0.2  # of the longest training, whose high losses would press all others flat
Points = list[tuple[float, float]]


def curves_figure(comparison: Comparison) -> Figure | None:
    """Validation strong, with its points; training dotted; None where nothing was logged.

    Several seeds are drawn faint, their mean strong. The horizontal axis counts tokens where runs
    differ in the tokens of a step.
    """
    key = BPB if comparison.comparable.figure == BPB else LOSS
    groups = comparison.groups
    in_tokens = len({_tokens_per_step(run) for run in comparison.runs}) > 1
    strong = [mean_curve(_curves(group, key, in_tokens)) for group in groups]
    if not any(strong):
        return None
    dotted = [binned(mean_curve(_curves(group, TRAIN, in_tokens))) for group in groups]
    dotted = [[] if key == BPB else points for points in dotted]  # in nats, which do not fit
    styles = looks(groups)
    ends = [
        CurveEnd(*points[-1], f"{named(group)} {FORMS[key].format(points[-1][1])}", look.colour)
        for group, points, look in zip(groups, strong, styles, strict=True)
        if points and look is not REST
    ]
    fig, ax = labels.chart(ends)
    for group, points, train, look in reversed(
        list(zip(groups, strong, dotted, styles, strict=True))
    ):
        seeds = _curves(group, key, in_tokens)
        _draw(ax, points, train, seeds if len(seeds) > 1 else [], look)
    _axes(ax, [*filter(None, strong)], dotted, in_tokens)
    labels.label_ends(fig, ax, ends)
    style.title(fig, f"{key} while training", _subtitle(comparison, key, any(dotted)))
    return fig


def mean_curve(curves: Sequence[Points]) -> Points:
    """The mean over curves at the places that all of them have."""
    if not curves:
        return []
    tables = [dict(points) for points in curves]
    shared = [x for x, _ in curves[0] if all(x in table for table in tables)]
    return [(x, sum(table[x] for table in tables) / len(tables)) for x in shared]


def binned(points: Points) -> Points:
    """At most `BINS` points, each the mean of its neighbours."""
    size = -(-len(points) // BINS) or 1
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]


def limits(strong: Sequence[Points], dotted: Sequence[Points]) -> tuple[float, float]:
    """The vertical axis: all but the first fifth of the training, less what runs far away."""
    last = max(points[-1][0] for points in strong)
    late = {
        str(i): [y for x, y in points if x >= EARLY * last] or [points[-1][1]]
        for i, points in enumerate(strong)
    }
    low = min(min(values) for values in late.values())
    if cut := style.cut_off(late):
        low, high = low, cut[1]
    else:
        high = max(max(values) for values in late.values())
    below = [y for points in dotted for x, y in points if x >= EARLY * last]
    low = max(min([low, *below]), low - (high - low or 0.1))
    pad = 0.06 * (high - low or 1.0)
    return low - pad, high + pad


def _curves(group: Group, key: str, in_tokens: bool) -> list[Points]:
    """The curve of each run of a group that has one."""
    found: list[Points] = []
    for run in group.runs.values():
        unit = _tokens_per_step(run) if in_tokens else 1
        found.append([(step * unit, value) for step, value in run.curve(key)])
    return [points for points in found if points]


def _tokens_per_step(run: RunFiles) -> int:
    results = run.results or {}
    steps = results.get("steps") or 0
    return round((results.get("tokens") or 0) / steps) if steps else 1


def _draw(ax: Axes, points: Points, train: Points, seeds: Sequence[Points], look: Style) -> None:
    grey = look is REST
    if train and not grey:
        ax.plot(*zip(*train, strict=True), color=look.colour, lw=0.9, alpha=0.5, ls=":")
    for one in seeds if not grey else []:
        ax.plot(*zip(*one, strict=True), color=look.colour, lw=0.9, alpha=0.45)
    if points:
        ax.plot(
            *zip(*points, strict=True),
            color=look.colour,
            lw=1.0 if grey else 1.9,
            marker=None if grey else "o",
            markersize=5 if len(points) < 15 else 2.5,
            zorder=1 if grey else 3,
        )


def _axes(ax: Axes, strong: Sequence[Points], dotted: Sequence[Points], in_tokens: bool) -> None:
    style.remove_frame(ax)
    ax.set_ylim(*limits(strong, dotted))
    ax.set_xlim(0, 1.01 * max(points[-1][0] for points in strong))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    ax.locator_params(axis="x", nbins=6)
    ax.set_xlabel("tokens" if in_tokens else "steps", fontsize=9, color=style.GREY)


def _subtitle(comparison: Comparison, key: str, has_train: bool) -> str:
    what = f"{UNITS[key]}; lower is better; numbers: at the last step"
    what += f"; dotted: {TRAIN}" if has_train else ""
    what += "; thin: each seed" if comparison.has_seeds else ""
    return what + rest(comparison.groups)
