"""An evaluation in pictures, drawn from its result as plain data.

draw_all(result, config, "runs/x")       # extrapolation.png, positions.png, passkey.png, …
log_figures(result, config, writer)      # the same as TensorBoard images
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.report.figures.attention import attention_figure
from evaluation.report.figures.loss import has_ratios, loss_figure, ratio_figure
from evaluation.report.figures.positions import positions_figure
from evaluation.report.figures.reading import cells
from evaluation.report.figures.remaps import remaps_figure, remaps_of
from evaluation.report.figures.retrieval import (
    COPIES,
    PASSKEYS,
    copy_figure,
    depth_figure,
    passkey_figure,
)
from evaluation.report.figures.spectrum import scalings_of, spectrum_figure
from evaluation.report.figures.style import pixels, png
from evaluation.report.files import write_atomically
from model import TransformerConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["draw_all", "figures", "log_figures"]

_TAGS = {"extrapolation": "figure"}  # as it was called before there were others


def figures(
    result: Mapping[str, Any], config: TransformerConfig | None
) -> dict[str, Callable[[], Figure]]:
    """Each figure that the result has data for, by name, as a function that draws it.

    `result` is what extrapolation.json holds; `config` is the model's; None: no spectrum.
    """
    methods, train_length = list(result["methods"]), result["train_length"]
    target = max(result["lengths"])
    drawn = {"extrapolation": lambda: loss_figure(result)}
    if has_ratios(result):
        drawn["ratio"] = lambda: ratio_figure(result)
    by_measure = {
        "positions": (("positions",), "nll", positions_figure),
        "passkey": (PASSKEYS, "accuracy", passkey_figure),
        "passkey-depth": (PASSKEYS, "depths", depth_figure),
        "copy": (COPIES, "gain", copy_figure),
        "attention": (("attention",), "layers", attention_figure),
    }
    for name, (measures, key, draw) in by_measure.items():
        if any(cells(result, measure, key) for measure in measures):
            drawn[name] = lambda draw=draw: draw(result)
    if config is not None and len(scalings_of(methods, config, train_length)) > 1:
        drawn["spectrum"] = lambda: spectrum_figure(methods, config, train_length, target)
    if remaps_of(methods, context=target, train_length=train_length):
        drawn["remaps"] = lambda: remaps_figure(methods, train_length, target)
    return drawn


def draw_all(
    result: Mapping[str, Any], config: TransformerConfig | None, directory: str | Path
) -> dict[str, Path]:
    """Write each of `figures` as directory/<name>.png, whole or not at all; returns the paths."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, draw in figures(result, config).items():
        paths[name] = Path(directory) / f"{name}.png"
        write_atomically(paths[name], png(draw()))
    return paths


def log_figures(
    result: Mapping[str, Any], config: TransformerConfig | None, writer: SummaryWriter
) -> None:
    """Log each of `figures` as an image `extrapolation/<name>`; the loss is `…/figure`."""
    for name, draw in figures(result, config).items():
        tag = f"extrapolation/{_TAGS.get(name, name)}"
        writer.add_image(tag, pixels(draw()), 0, dataformats="HWC")
