"""Loss along one long passage: the figure of `evaluation.per_position`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.figures import style
from evaluation.figures.reading import longest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def positions_figure(result: Mapping[str, Any]) -> Figure:
    """Loss against the tokens that stand before, each method at the longest length it was run."""
    found = longest(result, "positions")
    names = list(found)
    looks = style.styles(result["methods"])
    fig, ax = style.chart([f"{name} 10.00 at 32,768" for name in names])
    last = max(figures["to"][-1] for _, figures in found.values())
    ends = []
    for name, (_, figures) in found.items():
        # A bucket's middle on the log axis, but the last one reaches to its end.
        x = np.sqrt(np.multiply(figures["from"], figures["to"], dtype=float)).tolist()
        x[-1] = figures["to"][-1]
        points = style.curve(ax, x, figures["nll"], figures["ci95"], looks[name])
        ends += style.end_of(points, name, last, looks[name])
    ax.set_xscale("log", base=2)
    ax.set_xlim(0.85, last * 1.06)
    ticks = 2 ** np.arange(0, int(last).bit_length(), 1 + (last > 2**10))
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.minorticks_off()
    ax.set_xlabel("tokens of context, in buckets of doubling size", fontsize=9, color=style.GREY)
    style.trained_here(ax, result["train_length"])
    style.undress(ax)
    limits = style.top_of({name: found[name][1]["nll"] for name in names})
    if limits is not None:
        ax.set_ylim(*limits)
    style.label_ends(ax, ends)
    style.title(
        fig,
        "Loss along one long passage",
        "nats per token, with 95 % intervals over passages; lower is better",
    )
    return fig
