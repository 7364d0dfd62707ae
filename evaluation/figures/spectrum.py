"""What each scaling does to the frequencies: the wavelength of every pair."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from evaluation.figures import style
from evaluation.figures.style import End
from evaluation.methods import Method, parse_method
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
        if method.remap is None and bare.refusal(config, train_length) is None:
            found.setdefault(bare.name, bare)
    return found if config.position == "rope" else {}


def spectrum_figure(
    methods: Iterable[str], config: TransformerConfig, train_length: int, target: int
) -> Figure:
    """Wavelength of each pair, in tokens, under the scalings at a context of `target` tokens.

    A pair that stands still has no wavelength and is left out.
    """
    found = scalings_of(methods, config, train_length)
    looks = style.styles(found)
    fig, ax = style.chart([f"{name}, logits ×1.50" for name in found])
    ax.set_yscale("log")
    ends = []
    for name, method in found.items():
        arguments = method.arguments(config, context=target, train_length=train_length)
        inv_freq, factor = rope_frequencies(config.rotary_dim, config.theta, **arguments)
        turning = np.flatnonzero(inv_freq.numpy())
        waves = math.tau / inv_freq.numpy()[turning]
        points = style.curve(ax, turning.tolist(), waves.tolist(), [None] * len(waves), looks[name])
        text = name if factor == 1 else f"{name}, logits ×{factor**2:.2f}"
        ends += [End(*points[-1], text, looks[name].colour)] if points else []
    _mark(ax, config.rotary_dim // 2, train_length, target)
    style.label_ends(ax, ends)
    what = f"tokens to a full turn of each pair of {config.rotary_dim} rotated elements, log axis"
    style.title(fig, f"Frequencies at {target:,} tokens, by scaling", what)
    return fig


def _mark(ax: Axes, pairs: int, train_length: int, target: int) -> None:
    ax.set_xlim(-0.02 * pairs, (pairs - 1) * 1.02 + 0.1)
    ax.set_xlabel("pair, from fast to slow", fontsize=9, color=style.GREY)
    style.undress(ax)
    words = {train_length: "training length: pairs above it never finished a turn"}
    words[target] = "target length" if target != train_length else words[train_length]
    for length, text in words.items():
        ax.axhline(length, color=style.GREY, lw=1, ls=(0, (4, 3)), zorder=0)
        at = ax.get_yaxis_transform()
        ax.text(
            0.01, length * 1.08, f"{length:,}  {text}", transform=at, fontsize=8, color=style.GREY
        )
