"""How far back every layer looks: the figure of `evaluation.measures.attention_distance`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.report.figures import labels, style
from evaluation.report.figures.heatmap import heatmap
from evaluation.report.figures.selection import longest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "mean_distance": "mean distance, of the context",
    "beyond_training": "weight beyond the training length",
    "first_tokens": "weight on the first 4 tokens",
    "entropy": "entropy, of that of equal weights",
}


def attention_figure(result: Mapping[str, Any]) -> Figure:
    """Percent by method and layer, each method at the longest length it was run."""
    found = longest(result, "attention", "layers")
    names = [f"{name}  {style.short(n)}" for name, (n, _) in found.items()]
    depth = max(len(figures["layers"]) for _, figures in found.values())
    left, width = labels.label_width(names, len(names)) - 0.1, 0.34 * max(depth, 6)
    height = 0.22 * len(names)
    fig = style.canvas(left + len(PANELS) * (width + 0.2) + 0.2, height + 1.5)
    for i, (key, words) in enumerate(PANELS.items()):
        ax = style.axes(fig, left + i * (width + 0.2), 0.5, width, height)
        heatmap(ax, _shares(found, key, depth), fontsize=6.5)
        ax.set_title(words, fontsize=8, loc="left", pad=4)
        ax.set_xticks(range(depth), [str(layer + 1) for layer in range(depth)], fontsize=7)
        ax.set_xlabel("layer", fontsize=8, color=style.GREY)
        ax.set_yticks(range(len(names)), names if i == 0 else [""] * len(names), fontsize=8)
    what = "percent (blank: 0) over queries of the last quarter of the context, which is named"
    style.title(fig, "How far back attention looks", what, left=0.2)
    return fig


def _shares(found: Mapping[str, tuple[int, Mapping]], key: str, depth: int) -> np.ndarray:
    """(methods, layers); NaN where a method has fewer layers or not that figure."""
    shares = np.full((len(found), depth), np.nan)
    for row, (context, figures) in zip(shares, found.values(), strict=True):
        values = [layer.get(key) for layer in figures["layers"]]
        whole = context if key == "mean_distance" else 1
        row[: len(values)] = [np.nan if value is None else value / whole for value in values]
    return shares
