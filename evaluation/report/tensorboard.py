"""The result in TensorBoard, as a part of one run: a curve per method, and the pictures.

The step is the context length. TensorBoard smooths curves, by default with a weight of 0.6, which
would draw one of four points half a bit off. A point is therefore logged at several steps that
end with its own, so that the smoothed curve ends there too. (At one and the same step TensorBoard
keeps the last of several points.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.report.comparison import Comparison, comparisons
from evaluation.report.figures import log_figures
from evaluation.result import Extrapolation
from training.tags import EXTRAPOLATION

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from model import TransformerConfig

SUFFIX = ".extrapolation"  # of the event file, which holds nothing else
TIMES = 16  # a point is logged: 0.6^16 of what the curve was before is nothing to see


def log_tensorboard(
    result: Extrapolation, directory: str | Path, config: TransformerConfig | None = None
) -> None:
    """Log curves and pictures into the run that TensorBoard finds in `directory`.

    What an earlier call logged there is replaced. The tab Custom Scalars overlays the methods.
    """
    from torch.utils.tensorboard import SummaryWriter

    for old in Path(directory).glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    with SummaryWriter(str(directory), filename_suffix=SUFFIX) as writer:
        charts = {}
        for comparison in comparisons(result):
            if _log_curves(writer, comparison):
                tag = EXTRAPOLATION.format(_figure(comparison), ".+")
                charts[comparison.title] = ["Multiline", [tag]]
        if charts:
            writer.add_custom_scalars({"extrapolation": charts})
        log_figures(asdict(result), config, writer)


def _log_curves(writer: SummaryWriter, comparison: Comparison) -> bool:
    """Log each method that was measured at two contexts or more; one point makes no curve."""
    logged = False
    for name, values in comparison.values.items():
        pairs = zip(comparison.lengths, values, strict=True)
        points = [(length, value) for length, value in pairs if value is not None]
        for step, value in steps(points) if len(points) > 1 else ():
            writer.add_scalar(EXTRAPOLATION.format(_figure(comparison), name), value, step)
            logged = True
    return logged


def steps(points: list[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Each (length, value) at up to `TIMES` steps that end with the length, ascending.

    The first needs one only, since smoothing begins with it.
    """
    before = points[0][0] - 1
    for length, value in points:
        for step in range(max(before, length - TIMES) + 1, length + 1):
            yield step, value
        before = length


def _figure(comparison: Comparison) -> str:
    """What the curves of a measure are called."""
    return comparison.figure if comparison.measure == "loss" else comparison.measure
