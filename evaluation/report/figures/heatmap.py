"""Shares as colours, with the percentage in every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHADES = ("#fbf3e6", "#f4c887", "#78b7c5", "#0072B2", "#063a63")


def heatmap(ax: Axes, shares: np.ndarray, fontsize: float) -> None:
    """Shares from 0 to 1 as colours, light to dark, and in percent; 0 % is blank, NaN grey."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("shares", _SHADES).with_extremes(bad="#eeeeee")
    ax.imshow(np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:  # not where it is NaN either
            dark = "white" if share > 0.6 else "black"
            text = f"{100 * share:.0f}"
            ax.text(column, row, text, color=dark, fontsize=fontsize, ha="center", va="center")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
