"""Loss along one long passage: the figure of `evaluation.measures.per_position`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.report.figures import style
from evaluation.report.figures.reading import longest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def positions_figure(result: Mapping[str, Any]) -> Figure:
    """Loss against the tokens that stand before, each method at the longest length it was run."""
    found = longest(result, "positions", "nll")
    looks = style.styles(result["methods"])
    last = max(figures["to"][-1] for _, figures in found.values())
    middles = {name: _middles(figures) for name, (_, figures) in found.items()}
    ends = []
    for name, (_, figures) in found.items():
        points = style.known(middles[name], figures["nll"])
        ends += style.end_of(points, name, last, looks[name])
    fig, ax = style.chart(ends)
    for name, (_, figures) in found.items():
        style.curve(ax, middles[name], figures["nll"], figures["ci95"], looks[name], len(found))
    ax.set_xscale("log", base=2)
    ax.set_xlim(0.85, last * 1.06)
    ticks = 2 ** np.arange(0, int(last).bit_length(), 1 + (last > 2**10))
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.minorticks_off()
    ax.set_xlabel("tokens of context, in buckets of doubling size", fontsize=9, color=style.GREY)
    style.trained_here(ax, result["train_length"])
    style.undress(ax)
    limits = style.top_of({name: found[name][1]["nll"] for name in found})
    if limits is not None:
        ax.set_ylim(*limits)
    style.label_ends(ax, ends)
    style.title(
        fig,
        "Loss along one long passage",
        "nats per token, with 95 % intervals over passages; lower is better",
    )
    return fig


def _middles(figures: Mapping[str, list]) -> list[float]:
    """Each bucket's middle on the log axis; the last bucket stands at its end."""
    x = np.sqrt(np.multiply(figures["from"], figures["to"], dtype=float)).tolist()
    return [*x[:-1], figures["to"][-1]]
