"""What each scaling does to the frequencies: the wavelength of every pair."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.report.figures import labels, style
from evaluation.report.figures.labels import CurveEnd
from methods.method import Method, parse_method
from model import TransformerConfig, rope_frequencies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def scalings_of(
    methods: Iterable[str], config: TransformerConfig, train_length: int
) -> dict[str, Method]:
    """Those of the methods that have frequencies of their own, without log-n, and `none` first."""
    found = {"none": Method()}
    for name in methods:
        method = parse_method(name)
        bare = Method(method.scaling, method.number)
        if method.map is None and bare.refusal(config, train_length) is None:
            found.setdefault(bare.name, bare)
    return found if config.position == "rope" else {}


def spectrum_figure(
    methods: Iterable[str], config: TransformerConfig, train_length: int, target: int
) -> Figure:
    """Wavelength of each pair, in tokens, under the scalings at a context of `target` tokens.

    A pair that stands still has no wavelength and is left out.
    """
    found = scalings_of(methods, config, train_length)
    looks, waves, ends = style.styles(found), {}, []
    for name, method in found.items():
        arguments = method.arguments(config, context=target, train_length=train_length)
        inv_freq, factor = rope_frequencies(config.rotary_dim, config.theta, **arguments)
        turning = inv_freq[inv_freq > 0]  # the first ones
        waves[name] = (math.tau / turning).tolist()
        text = name if factor == 1 else f"{name}, logits ×{factor**2:.2f}"
        if waves[name]:
            ends.append(CurveEnd(len(turning) - 1, waves[name][-1], text, looks[name].colour))
    fig, ax = labels.chart(ends)
    ax.set_yscale("log")
    widths = np.linspace(4.5, 1.3, len(found))  # where curves coincide all are seen
    for (name, values), lw in zip(waves.items(), widths, strict=True):
        ax.plot(values, color=looks[name].colour, ls=looks[name].dashes, lw=lw)
    _mark_lengths(ax, config.rotary_dim // 2, train_length, target)
    labels.label_ends(fig, ax, ends)
    what = f"tokens to a full turn of each pair of {config.rotary_dim} rotated elements, log axis"
    style.title(fig, f"Frequencies at {target:,} tokens, by scaling", what)
    return fig


def _mark_lengths(ax: Axes, pairs: int, train_length: int, target: int) -> None:
    """The axis of the pairs, and lines at the wavelengths that are the two lengths."""
    ax.set_xlim(-0.02 * pairs, (pairs - 1) * 1.02 + 0.1)
    ax.set_xlabel("pair, from fast to slow", fontsize=9, color=style.GREY)
    style.remove_frame(ax)
    for length in {train_length, target}:
        ax.axhline(length, color=style.GREY, lw=1, ls=(0, (4, 3)), zorder=0)
    small: dict[str, Any] = {"fontsize": 8, "color": style.GREY}
    small["transform"] = ax.get_yaxis_transform()
    ax.text(0.01, target * 1.15, f"target length {target:,}", **small)
    text = f"training length {train_length:,}: a pair above it never finished a turn"
    ax.text(0.99, train_length / 1.6, text, ha="right", va="top", **small)
