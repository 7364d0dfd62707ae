"""Loss along one long passage: the figure of `evaluation.measures.per_position`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.report.figures import labels, style
from evaluation.report.figures.selection import longest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def positions_figure(result: Mapping[str, Any]) -> Figure:
    """Loss against the tokens of context, each method at the longest length it was run."""
    found = longest(result, "positions", "nll")
    looks = style.styles(result["methods"])
    last = max(figures["to"][-1] for _, figures in found.values())
    middles = {name: _middles(figures) for name, (_, figures) in found.items()}
    ends = []
    for name, (_, figures) in found.items():
        points = style.points_of(middles[name], figures["nll"])
        ends += labels.end_of(points, name, last, looks[name])
    fig, ax = labels.chart(ends)
    for name, (_, figures) in found.items():
        style.curve(ax, middles[name], figures["nll"], figures["ci95"], looks[name], len(found))
    _context_axis(ax, last)
    style.mark_train_length(ax, result["train_length"])
    style.remove_frame(ax)
    limits = style.cut_off({name: figures["nll"] for name, (_, figures) in found.items()})
    if limits is not None:
        ax.set_ylim(*limits)
    labels.label_ends(fig, ax, ends)
    what = "nats per token, with 95 % intervals over passages; lower is better"
    style.title(fig, "Loss along one long passage", what)
    return fig


def _middles(figures: Mapping[str, list]) -> list[float]:
    """Each bucket's middle on the log axis; the last bucket stands at its end."""
    x = np.sqrt(np.multiply(figures["from"], figures["to"], dtype=float)).tolist()
    return [*x[:-1], figures["to"][-1]]


def _context_axis(ax: Axes, last: int) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xlim(0.85, last * 1.06)
    ticks = 2 ** np.arange(0, int(last).bit_length(), 1 + (last > 2**10))
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.minorticks_off()
    ax.set_xlabel("tokens of context, in buckets of doubling size", fontsize=9, color=style.GREY)
