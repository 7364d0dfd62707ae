"""An evaluation in pictures, drawn from its result as plain data.

draw_all(result, config, "runs/x", "png")   # extrapolation.png, positions.png, passkey.png, …
log_figures(result, config, writer)         # the same as TensorBoard images

A file here draws the figures of one question. They share `style.py` (colours, axes, curves),
`labels.py` (names at the ends of curves), `heatmap.py`, `images.py` (pixels), and
`selection.py`, which takes from a result what a figure needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.figures import Formats, write_figure
from evaluation.report.figures.attention import attention_figure
from evaluation.report.figures.images import pixels
from evaluation.report.figures.loss import has_ratios, loss_figure, ratio_figure
from evaluation.report.figures.per_position import positions_figure
from evaluation.report.figures.retrieval import (
    COPIES,
    PASSKEYS,
    copy_figure,
    depth_figure,
    passkey_figure,
)
from evaluation.report.figures.selection import measured
from evaluation.result import Extrapolation
from training.tags import FIGURES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

    from model import TransformerConfig

__all__ = ["draw_all", "figure", "figures", "log_figures"]

# name -> (measures of which one must be there, the figure that it must have, what draws it)
_BY_MEASURE: dict[str, tuple[tuple[str, ...], str, Callable[[Mapping[str, Any]], Figure]]] = {
    "positions": (("positions",), "nll", positions_figure),
    "passkey": (tuple(PASSKEYS), "accuracy", passkey_figure),
    "passkey-depth": (tuple(PASSKEYS), "depths", depth_figure),
    "copy": (tuple(COPIES), "gain", copy_figure),
    "attention": (("attention",), "layers", attention_figure),
}


def figures(
    result: Mapping[str, Any], config: TransformerConfig | None
) -> dict[str, Callable[[], Figure]]:
    """Each figure that the result has data for, by name, as a function that draws it.

    `result` is what extrapolation.json holds; `config` is the model's; None: no spectrum.
    """
    # Here, since they load torch, which those who only borrow style.py and labels.py do without.
    from evaluation.report.figures.position_maps import maps_figure, maps_of
    from evaluation.report.figures.spectrum import scalings_of, spectrum_figure

    methods, train_length = list(result["methods"]), result["train_length"]
    target = max(result["lengths"])
    drawn = {"extrapolation": partial(loss_figure, result)}
    if has_ratios(result):
        drawn["ratio"] = partial(ratio_figure, result)
    for name, (measures, key, draw) in _BY_MEASURE.items():
        if any(measured(result, measure, key) for measure in measures):
            drawn[name] = partial(draw, result)
    if config is not None and len(scalings_of(methods, config, train_length)) > 1:
        drawn["spectrum"] = partial(spectrum_figure, methods, config, train_length, target)
    if maps_of(methods, context=target, train_length=train_length):
        drawn["remaps"] = partial(maps_figure, methods, train_length, target)
    return dict(drawn)


def figure(result: Extrapolation) -> Figure:
    """Bits per byte against context length, a curve and its 95 % band per method."""
    return loss_figure(asdict(result))


def draw_all(
    result: Mapping[str, Any],
    config: TransformerConfig | None,
    directory: str | Path,
    formats: Formats,
) -> list[Path]:
    """Write each of `figures` as directory/<name>.<format>; returns the paths."""
    paths = []
    for name, draw in figures(result, config).items():
        paths += write_figure(draw(), directory, name, formats)
    return paths


def log_figures(
    result: Mapping[str, Any], config: TransformerConfig | None, writer: SummaryWriter
) -> None:
    """Log each of `figures` as an image `val_figures/<name>`."""
    for name, draw in figures(result, config).items():
        writer.add_image(FIGURES.format(name), pixels(draw()), 0, dataformats="HWC")
