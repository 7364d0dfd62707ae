"""The result in TensorBoard: curves per method, a row of HParams per method, and the pictures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.report.comparison import Comparison, comparisons
from evaluation.report.figures import log_figures
from evaluation.result import Extrapolation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from model import TransformerConfig

TAG = "extrapolation/{}"  # of each measure; the loss's is bpb
HP_METRICS = ("hp/bpb", "hp/ratio", "hp/passkey", "hp/tax")


def log_tensorboard(
    result: Extrapolation, directory: str | Path, config: TransformerConfig | None = None
) -> None:
    """Log each method as a sub-run `directory/<method>`, so that one chart overlays them.

    The step is the context length. Pictures go to the sub-run `extrapolation`. What was logged
    into the same directory before is replaced.
    """
    directory = Path(directory)
    log_methods(result, directory)
    with _anew(directory / "extrapolation") as writer:
        log_figures(asdict(result), config, writer)


def log_methods(result: Extrapolation, directory: Path) -> None:
    """Log each method's curves over the context, and its row of HParams.

    The row has the method and the model's own facts. Its metrics are bits per byte, perplexity
    ratio and passkey accuracy at the longest length, and the method's tax in nats per token. What
    was not measured is left out.
    """
    compared = comparisons(result)
    for name in result.methods:
        with _anew(directory / name) as writer:
            for comparison in compared:
                _log_curve(writer, comparison, name)
            _log_row(writer, result, name, metrics_of(result, name))


def _anew(directory: Path) -> SummaryWriter:
    """A writer into a sub-run, which holds nothing else afterwards."""
    from torch.utils.tensorboard import SummaryWriter

    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(str(directory))


def _log_curve(writer: SummaryWriter, comparison: Comparison, name: str) -> None:
    is_loss = comparison.measure == "loss"
    tag = TAG.format(comparison.figure if is_loss else comparison.measure)
    for length, value in zip(comparison.lengths, comparison.values[name], strict=True):
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

    assert writer.file_writer is not None  # until it is closed
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
