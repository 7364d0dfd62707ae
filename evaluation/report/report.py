"""What is left of an extrapolation in a directory: files, pictures, TensorBoard curves.

Lower bits per byte are better throughout. matplotlib and tensorboard are imported by the functions
that draw and log, so that a command's start does not wait for them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.extrapolation import Extrapolation
from evaluation.report.figures import draw_all, log_figures
from evaluation.report.figures.loss import loss_figure
from evaluation.report.files import write_files
from evaluation.report.scalars import log_scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from model import TransformerConfig


def write_report(
    result: Extrapolation, directory: str | Path, config: TransformerConfig | None = None
) -> None:
    """Write extrapolation.json, .csv, .md and the pictures, each whole or not at all.

    `config` is the model's; without it there is no picture of the frequencies.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_files(result, directory)
    draw_all(asdict(result), config, directory)


def log_tensorboard(
    result: Extrapolation, directory: str | Path, config: TransformerConfig | None = None
) -> None:
    """Log each method as a sub-run `directory/<method>`, so that one chart overlays them.

    The step is the context length. Pictures go to the sub-run `extrapolation`. Logging again into
    the same directory replaces what TensorBoard shows.
    """
    from torch.utils.tensorboard import SummaryWriter

    directory = Path(directory)
    log_scalars(result, directory)
    with SummaryWriter(str(directory / "extrapolation"), purge_step=0) as writer:
        log_figures(asdict(result), config, writer)


def figure(result: Extrapolation) -> Figure:
    """Bits per byte against context length, a curve and its 95 % band per method."""
    return loss_figure(asdict(result))
