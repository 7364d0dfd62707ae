"""Measure, show and write down length extrapolation: what train.py and evaluate.py share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cli.identity import identity, sha256
from cli.trained import beginning_of
from common.figures import Formats
from common.signals import Stopped
from common.terminal import is_quiet
from data import Tokenizer
from evaluation import (
    CELLS,
    Cells,
    Column,
    Columns,
    Extrapolation,
    OnProgress,
    Settings,
    Subject,
    check_settings,
    column_tables,
    legend,
    log_tensorboard,
    measure_checkpoints,
    measure_columns,
    setting_json,
    setting_words,
    tables,
    write_columns,
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
    subject = Subject.in_memory(run.best_network(), beginning_of(data.tokenizer, config))
    known = identity(
        [{"sha256": sha256(find_checkpoint(run.directory))}],
        settings,
        data.val_documents,
        {"corpus": config["data"]["corpus"], "split": "validation"},
        subject.precision,
    )
    cells = _cells(run.directory / CELLS, known)
    how = run.how_to_go_on()
    where = (data.val_documents, data.tokenizer, run.directory)
    return extrapolate_all(
        *([subject], settings, cells, *where, how, config["figures"]),
        tensorboards=[Path(logger.log_dir) for logger in run.tensorboards],
    )


def extrapolate_all(
    subjects: Sequence[Subject],
    settings: Settings,
    cells: Cells,
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    directory: Path,
    how_to_go_on: str,
    formats: Formats,
    tensorboards: Sequence[Path],
) -> Extrapolation:
    """Measure checkpoints of one training length, print the tables, leave files in `directory`.

    `formats` are those of the figures; `tensorboards` the directories of event files that curves
    and pictures are logged into.

    Asked to stop, it says that finished cells are kept and `how_to_go_on` (`Stopped`).
    """
    with _stoppable([cells], how_to_go_on):
        with _progress() as on_progress:
            result = measure_checkpoints(
                subjects,
                documents,
                tokenizer.token_bytes,
                settings,
                tokenizer=tokenizer,
                cells=cells,
                on_progress=on_progress,
            )
        show(result)
        config = subjects[0].config
        write_report(result, directory, config, formats)
        for place in tensorboards:
            log_tensorboard(result, place, config)
    return result


def extrapolate_columns(
    columns: Sequence[Column],
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    directory: Path,
    how_to_go_on: str,
    formats: Formats,
) -> Columns:
    """Measure different models on the same passages and print them side by side.

    The comparison is left in `directory`, and each model's own report in a directory below it that
    is named by its label. Asked to stop: as `extrapolate_all`.
    """
    with _stoppable([column.cells for column in columns], how_to_go_on):
        with _progress() as on_progress:
            compared, results = measure_columns(
                columns,
                documents,
                tokenizer.token_bytes,
                tokenizer=tokenizer,
                on_progress=on_progress,
            )
        console = Console()
        for table in column_tables(compared):
            console.print(table, "")
        console.print(legend(next(iter(results.values()))))
        for column in columns:
            own, config = directory / column.label, column.subject.config
            write_report(results[column.label], own, config, formats)
            log_tensorboard(results[column.label], own / "tensorboard", config)
        write_columns(compared, directory, formats)
    return compared


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar with the time left, of all that is measured."""
    columns = (TextColumn("extrapolation"), BarColumn(bar_width=24), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=is_quiet()) as progress:
        task = progress.add_task("")
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _stoppable(stores: Sequence[Cells], how_to_go_on: str) -> Iterator[None]:
    """Asked to stop, say what is kept, and how to go on."""
    try:
        yield
    except Stopped as stop:
        kept = f"{sum(map(len, stores))} finished cells are kept"
        raise Stopped(stop.number, f"{kept}; {how_to_go_on}") from None


def _cells(path: Path, known: dict[str, Any]) -> Cells:
    """The finished cells in a run's directory; none, where they are of another checkpoint."""
    try:
        return Cells(path, known)
    except ValueError:  # the run has been trained on since, or the file is damaged
        path.unlink()
        return Cells(path, known)


def show(result: Extrapolation) -> None:
    """Print the tables, a line on each method, and the setting to paste into a config.json."""
    console = Console()
    for table in tables(result):
        console.print(table, "")
    console.print(legend(result))
    if words := setting_words(result):
        console.print("", Text(words), sep="\n")
    if line := setting_json(result):
        print(line)  # as it stands, to be pasted
