"""The result in TensorBoard: a curve per method and measure, a row of HParams per method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.extrapolation import Extrapolation
from evaluation.report.tables import Grid, grids

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TAG = "extrapolation/{}"  # of each measure; the loss's is bpb
HP_METRICS = ("hp/bpb", "hp/ratio", "hp/passkey", "hp/tax")


def log_scalars(result: Extrapolation, directory: Path) -> None:
    """Log each method as a sub-run `directory/<method>`: curves over context, and its row.

    The row has the method and the model's own facts, and as metrics bits per byte, perplexity
    ratio and passkey accuracy at the longest length that was measured, and the method's tax in
    nats per token; what was not measured is left out.
    """
    from torch.utils.tensorboard import SummaryWriter

    drawn = grids(result)
    for name in result.methods:
        with SummaryWriter(str(directory / name), purge_step=0) as writer:
            for grid in drawn:
                _log_curve(writer, grid, name)
            _log_row(writer, result, name, metrics_of(result, name))


def _log_curve(writer: SummaryWriter, grid: Grid, name: str) -> None:
    tag = TAG.format(grid.figure if grid.measure == "loss" else grid.measure)
    for length, value in zip(grid.lengths, grid.values[name], strict=True):
        if value is not None:
            writer.add_scalar(tag, value, length)


def metrics_of(result: Extrapolation, name: str) -> dict[str, float]:
    """A method's few figures by which models are compared."""
    values = result.methods[name]
    passkey = result.measures.get("passkey", {}).get(name, {}).get(str(result.lengths[-1]), {})
    found = {
        "hp/bpb": values["bpb"][-1],
        "hp/ratio": values.get("perplexity_ratio", [None])[-1],
        "hp/passkey": passkey.get("accuracy"),
        "hp/tax": result.tax.get(name, {}).get("nll"),
    }
    return {tag: value for tag, value in found.items() if value is not None}


def _log_row(
    writer: SummaryWriter, result: Extrapolation, name: str, metrics: dict[str, float]
) -> None:
    from torch.utils.tensorboard.summary import hparams

    # `writer.add_hparams` would make a run of its own, named by the time.
    for summary in hparams(_facts(result, name), dict.fromkeys(HP_METRICS, 0.0)):
        writer.file_writer.add_summary(summary)
    for tag, value in metrics.items():
        writer.add_scalar(tag, value, result.lengths[-1])


def _facts(result: Extrapolation, name: str) -> dict[str, Any]:
    facts = {
        "method": name,
        **result.protocol.get("model", {}),
        "train_length": result.train_length,
        "longest": result.lengths[-1],
        "checkpoints": max(1, len(result.checkpoints)),
    }
    return {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in facts.items()}
