"""Measure, show and write down length extrapolation: what train.py and evaluate.py share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from evaluation import (
    Extrapolation,
    legend,
    log_tensorboard,
    measure_extrapolation,
    table,
    write_report,
)
from model import Transformer


def extrapolate(
    model: Transformer,
    documents: Sequence[np.ndarray],
    token_bytes: np.ndarray,
    train_length: int,
    settings: Mapping[str, Any],
    directory: Path,
) -> Extrapolation:
    """Measure `model` on `documents`, print the table, leave files and TensorBoard in `directory`.

    `settings` are the keys under `evaluation`, `train_length` is in tokens.
    """
    console = Console()
    columns = (TextColumn("extrapolation"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")
        result = measure_extrapolation(
            model,
            documents,
            token_bytes,
            train_length=train_length,
            lengths=settings["lengths"],
            methods=settings["methods"],
            passages=settings["passages"],
            target_tokens=settings["target_tokens"],
            max_tokens_per_batch=settings["max_tokens_per_batch"],
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(table(result))
    console.print(legend(result), highlight=False, markup=False)
    write_report(result, directory)
    log_tensorboard(result, directory / "tensorboard")
    return result
