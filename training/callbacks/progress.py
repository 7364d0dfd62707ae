"""Progress of a run on the screen: a bar with the time left, or plain lines without a terminal."""

import sys
import time
from typing import Any

import lightning as L
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from common.terminal import is_quiet, say
from training.callbacks import find
from training.callbacks.metrics import Metrics

FIRST_LINE_AFTER = 5.0  # seconds


class Progress(L.Callback):
    """Shows the logged metrics; it is redrawn when they change, never in between."""

    def __init__(self) -> None:
        self.bar: Bar | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the metrics, and start the bar where stderr is a terminal."""
        self.metrics = find(trainer, Metrics)
        self.shown = dict(self.metrics.latest)
        self.started, self.printed = time.monotonic(), False
        if is_quiet() or not trainer.is_global_zero or not sys.stderr.isatty():
            return
        self.bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            auto_refresh=False,  # no thread beside the training loop
        )
        self.bar.start()
        self.task = self.bar.add_task(
            "", total=trainer.max_steps, completed=trainer.global_step, figures=""
        )

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Redraw when there are new metrics; without a terminal, print one early line."""
        if self.metrics.latest == self.shown:
            return
        if self.bar:
            self._draw(trainer)
        elif not self.printed and time.monotonic() - self.started > FIRST_LINE_AFTER:
            self._print_line(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Redraw, or print a line."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.bar:
            self._draw(trainer)
        else:
            self._print_line(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the bar a last time and leave it on the screen."""
        if self.bar:
            self._draw(trainer)
            self.bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Stop the bar, so that the error is printed below it."""
        if self.bar:
            self.bar.stop()

    def _print_line(self, trainer: L.Trainer) -> None:
        self.printed = True
        if trainer.is_global_zero:
            at = f"step {trainer.global_step}/{trainer.max_steps}"
            say(f"{at}  {self._figures()}  left {self._time_left(trainer)}")

    def _draw(self, trainer: L.Trainer) -> None:
        assert self.bar is not None
        self.shown = dict(self.metrics.latest)
        self.bar.update(self.task, completed=trainer.global_step, figures=self._figures())
        self.bar.refresh()

    def _figures(self) -> str:
        latest = self.metrics.latest
        parts = [
            f"{label} {latest[name]:{form}}"
            for label, name, form in (
                ("loss", "train/loss", ".3f"),
                ("val", "val/loss", ".4f"),
                ("tok/s", "train/tokens_per_second", ",.0f"),
            )
            if name in latest
        ]
        return "  ".join(parts)

    def _time_left(self, trainer: L.Trainer) -> str:
        rate = self.metrics.latest.get("train/tokens_per_second")
        if rate is None:
            return "?"  # nothing has been logged yet
        tokens = (trainer.max_steps - trainer.global_step) * self.metrics.tokens_per_step
        seconds = round(tokens / rate)
        return f"{seconds // 60}:{seconds % 60:02d}"
