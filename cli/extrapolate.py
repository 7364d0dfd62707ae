"""Measure, show and write down length extrapolation: what train.py and evaluate.py share."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from data import Tokenizer
from evaluation import (
    Cells,
    Extrapolation,
    Settings,
    Subject,
    check_settings,
    legend,
    log_tensorboard,
    measure_checkpoints,
    tables,
    write_report,
)
from model import Transformer


def extrapolate(
    model: Transformer,
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    train_length: int,
    settings: Mapping[str, Any],
    directory: Path,
) -> Extrapolation:
    """Measure `model` on `documents`, print the tables, leave files and TensorBoard in `directory`.

    `settings` are the keys under `evaluation`, `train_length` is in tokens.
    """
    checked = check_settings(train_length, **settings)
    return extrapolate_all(
        [Subject.in_memory(model)], documents, tokenizer, checked, directory, Cells()
    )


def extrapolate_all(
    subjects: Sequence[Subject],
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    settings: Settings,
    directory: Path,
    cells: Cells,
) -> Extrapolation:
    """The same for several checkpoints of one training length, keeping finished cells in `cells`.

    After Ctrl-C it says how to go on and exits with status 130, where `cells` is a file.
    """
    columns = (TextColumn("extrapolation"), BarColumn(bar_width=24), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("")
            result = measure_checkpoints(
                subjects,
                documents,
                tokenizer.token_bytes,
                settings,
                tokenizer=tokenizer,
                cells=cells,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        show(result)
        config = subjects[0].config
        write_report(result, directory, config)
        log_tensorboard(result, directory / "tensorboard", config)
    except KeyboardInterrupt:
        if cells.path is None:
            raise
        how = f"the same command with {shlex.quote(f'output_dir={directory}')} goes on"
        print(f"\nstopped; finished cells are kept ({len(cells)}), {how}", file=sys.stderr)
        sys.exit(130)
    return result


def show(result: Extrapolation) -> None:
    """Print the tables, and a line on each method."""
    console = Console()
    for table in tables(result):
        console.print(table, "")
    console.print(legend(result))
