"""What each position map makes of the distance between two tokens: R(i, j)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluation.report.figures import labels, style
from evaluation.report.figures.labels import CurveEnd
from methods.maps import PositionMap, attended
from methods.method import parse_method
from methods.registry import LEAST_TRAIN_LENGTH, map_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_PIXELS = 160  # queries and keys of an image, at most
_SHOWN = 4  # training lengths in an image: in a longer one the near tokens would not be seen
_PITCH, _SIDE = 2.1, 1.75  # inches from an image to the next, and of its side
_ROW = 2.35  # inches of a row of images


def maps_of(methods: Iterable[str], *, context: int, train_length: int) -> dict[str, PositionMap]:
    """The maps of those of the methods that bend positions, without log-n.

    Those whose rule needs a longer training length are left out.
    """
    found: dict[str, PositionMap] = {}
    lengths = {"context": context, "train_length": train_length}
    has_rule = train_length >= LEAST_TRAIN_LENGTH
    for method in map(parse_method, methods):
        if method.map is not None and (method.settings or has_rule):
            name = method.name.removesuffix("+logn")
            found.setdefault(name, map_of(method.map, method.settings, **lengths))
    return found


def maps_figure(methods: Iterable[str], train_length: int, target: int) -> Figure:
    """The last query's relative positions at a context of `target`, and an image for each map.

    An image shows R(i, j), keys j to the right and queries i downwards. Its colours are the
    distances of training; what is beyond them is red, and what is not attended to white. A score
    that is a mean over distances is shown at their middle.
    """
    methods = list(methods)
    found = maps_of(methods, context=target, train_length=train_length)
    shown = min(target, _SHOWN * train_length)
    images = maps_of(methods, context=shown, train_length=train_length)
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    right = labels.label_width(found, len(found))
    fig = style.canvas(max(6.6 + right, 0.6 + _PITCH * columns + 0.9), 4.45 + _ROW * rows)
    curves = style.axes(fig, 0.75, 0.75 + _ROW * rows, 5.4, 2.75)
    labels.label_ends(fig, curves, _draw_curves(curves, found, train_length, target))
    for i, (name, its_map) in enumerate(images.items()):
        row, column = divmod(i, columns)
        bottom = 0.45 + (rows - 1 - row) * _ROW
        ax = style.axes(fig, 0.75 + _PITCH * column, bottom, _SIDE, _SIDE)
        image = _draw_image(ax, name, its_map, train_length, shown)
    bar = style.axes(fig, 0.75 + _PITCH * columns, 0.45 + (rows - 1) * _ROW, 0.12, _SIDE)
    fig.colorbar(image, cax=bar, extend="max").ax.tick_params(labelsize=7)
    what = (
        f"as it is read by the last query of {target:,} tokens; below, every pair of the first "
        f"{shown:,}:\nkeys to the right, queries down; red is beyond the distances of training"
    )
    style.title(fig, "Distances, as the remaps bend them", what)
    return fig


def relative_positions(its_map: PositionMap, i: torch.Tensor, j: torch.Tensor) -> np.ndarray:
    """R(i, j), NaN where the pair is not attended to."""
    return torch.where(attended(its_map, i, j), its_map.relative(i, j), torch.nan).numpy()


def _draw_curves(
    ax: Axes, found: dict[str, PositionMap], train_length: int, target: int
) -> list[CurveEnd]:
    """R of the last query against the distance, a curve for each map; returns their ends."""
    looks, ends = style.styles(("none", *found)), []
    distance = np.unique(np.geomspace(1, target - 1, 1500).astype(int)) if target > 1 else [0]
    j = target - 1 - torch.as_tensor(distance)
    for name, its_map in found.items():
        relative = relative_positions(its_map, torch.tensor([[target - 1]]), j[None])[0]
        jumps = np.nanmin(np.diff(relative), initial=0) < 0  # of chunks, each beside the next
        width, order = (0.6, 1) if jumps else (1.8, 2)  # 2: as lines are drawn
        ax.plot(distance, relative, color=looks[name].colour, lw=width, zorder=order)
        there = np.flatnonzero(~np.isnan(relative))
        if len(there):
            last = there[-1]
            ends.append(CurveEnd(distance[last], relative[last], name, looks[name].colour))
    ax.plot(distance, distance, color=style.GREY, lw=1, ls=":", zorder=0)
    ax.axhline(train_length, color=style.GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    ax.text(1, 1.02 * train_length, "training length", color=style.GREY, fontsize=8)
    _distance_axes(ax, train_length, target)
    return ends


def _distance_axes(ax: Axes, train_length: int, target: int) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xlim(0.9, target * 1.06)
    ax.set_ylim(0, 1.6 * train_length)
    style.remove_frame(ax)
    ticks = 2 ** np.arange(0, int(target).bit_length(), 2)
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.minorticks_off()
    ax.set_xlabel("distance in tokens (dotted: read as it is)", fontsize=9, color=style.GREY)


def _draw_image(
    ax: Axes, name: str, its_map: PositionMap, train_length: int, shown: int
) -> AxesImage:
    from matplotlib import colormaps

    places = torch.from_numpy(np.linspace(0, shown - 1, min(shown, _PIXELS)).round().astype(int))
    relative = np.ma.masked_invalid(relative_positions(its_map, places[:, None], places[None]))
    colours = colormaps["viridis_r"].with_extremes(over="#D55E00", bad="white")
    extent = (0, shown, shown, 0)
    image = ax.imshow(relative, cmap=colours, vmin=0, vmax=train_length, extent=extent)
    ax.set_title(name, fontsize=8, weight="bold", loc="left", pad=3)
    ticks = range(0, shown + 1, train_length if shown >= train_length else shown)
    ax.set_xticks(ticks, [style.short(n) for n in ticks], fontsize=6)
    ax.set_yticks(ticks, [style.short(n) for n in ticks], fontsize=6)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return image
