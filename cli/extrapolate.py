"""Measure, show and write down length extrapolation: what train.py and evaluate.py share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.identity import identity, sha256
from common.figures import Formats
from common.signals import Stopped
from common.terminal import is_quiet
from data import Tokenizer
from evaluation import (
    CELLS,
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
from training import Run
from training.checkpoint_files import find_checkpoint


def extrapolate(run: Run) -> Extrapolation:
    """Measure the best checkpoint of a run that has been trained, as its config says.

    Finished cells are kept in the run's directory. A run that goes on takes them up, if its best
    checkpoint is the same.
    """
    data, config = run.prepared.data, run.prepared.config
    settings = check_settings(config["data"]["seq_len"], **config["evaluation"])
    subject = Subject.in_memory(run.best_network())
    known = identity(
        [{"sha256": sha256(find_checkpoint(run.directory))}],
        settings,
        data.val_documents,
        {"corpus": config["data"]["corpus"], "split": "validation"},
        subject.precision,
    )
    cells = _cells(run.directory / CELLS, known)
    how = run.how_to_go_on()
    return extrapolate_all(
        *([subject], data.val_documents, data.tokenizer, settings, run.directory, cells, how),
        formats=config["figures"],
        tensorboards=[Path(logger.log_dir) for logger in run.tensorboards],
    )


def extrapolate_all(
    subjects: Sequence[Subject],
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    settings: Settings,
    directory: Path,
    cells: Cells,
    how_to_go_on: str,
    formats: Formats,
    tensorboards: Sequence[Path],
) -> Extrapolation:
    """Measure checkpoints of one training length, print the tables, leave files in `directory`.

    `formats` are those of the figures; `tensorboards` the directories of event files that curves
    and pictures are logged into.

    Asked to stop, it says that finished cells are kept and `how_to_go_on` (`Stopped`).
    """
    try:
        with _bar() as progress:
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
        write_report(result, directory, config, formats)
        for place in tensorboards:
            log_tensorboard(result, place, config)
    except Stopped as stop:
        kept = f"{len(cells)} finished cells are kept"
        raise Stopped(stop.number, f"{kept}; {how_to_go_on}") from None
    return result


def _bar() -> Progress:
    columns = (TextColumn("extrapolation"), BarColumn(bar_width=24), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=is_quiet())


def _cells(path: Path, known: dict[str, Any]) -> Cells:
    """The finished cells in a run's directory; none, where they are of another checkpoint."""
    try:
        return Cells(path, known)
    except ValueError:  # the run has been trained on since, or the file is damaged
        path.unlink()
        return Cells(path, known)


def show(result: Extrapolation) -> None:
    """Print the tables, and a line on each method."""
    console = Console()
    for table in tables(result):
        console.print(table, "")
    console.print(legend(result))
