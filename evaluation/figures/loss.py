"""Loss against context length: the figure of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evaluation.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def loss_figure(result: Mapping[str, Any]) -> Figure:
    """Bits per byte against context length, a curve and its 95 % band per method.

    The axis is cut off where some methods would press the others flat; it is said by how much.
    Bands, wider than what sets the others apart, are then left out.
    """
    methods, lengths = result["methods"], result["lengths"]
    measured = {name: [b for b in m["bpb"] if b is not None] for name, m in methods.items()}
    looks, ends = style.styles(methods), []
    for name, values in methods.items():
        points = style.known(lengths, values["bpb"])
        ends += style.end_of(points, name, lengths[-1], looks[name])
    fig, ax = style.chart(ends)
    limits = style.top_of(measured)
    for name, values in methods.items():
        bands = values["ci95"] if limits is None else [None] * len(lengths)
        style.curve(ax, lengths, values["bpb"], bands, looks[name], len(methods))
    style.lengths_axis(ax, lengths, result["train_length"])
    style.trained_here(ax, result["train_length"])
    style.undress(ax)
    if limits is not None:
        ax.set_ylim(*limits)
    style.label_ends(ax, ends)
    style.title(fig, "Reading past the training length", _what(result, measured, limits))
    return fig


def _what(
    result: Mapping[str, Any], measured: Mapping[str, list[float]], limits: tuple | None
) -> str:
    p = result["protocol"]
    scored = f"{p['target_tokens']} tokens in each of {p['passages']} passages"
    what = f"bits per byte of the same {scored}"
    if limits is None:
        return f"{what}, with 95 % intervals; lower is better"
    above = [max(values) for values in measured.values() if values and max(values) > limits[1]]
    on = "1 curve goes on" if len(above) == 1 else f"{len(above)} curves go on"
    cut = f"axis cut off at {limits[1]:.2f}: {on}, to {max(above):.2f}"
    return f"{what}; lower is better\n{cut}"
