"""How far a part is: a bar with the time left, or a line now and then where no terminal is."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from common.terminal import is_quiet, say

FIRST_LINE_AFTER, NEXT_LINE_AFTER = 5.0, 30.0  # seconds


class PartProgress:
    """Shows on stderr how far a part is; a context manager, after which the display is gone."""

    def __init__(self) -> None:
        self.bar: Progress | None = None

    def part(self, name: str) -> "PartProgress":
        """The display of the part `name`."""
        self.name, self.done, self.total = name, 0, 0
        self.next_line = time.monotonic() + FIRST_LINE_AFTER
        return self

    def __enter__(self) -> "PartProgress":
        if sys.stderr.isatty() and not is_quiet():
            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
            text = TextColumn("{task.description}")
            console = Console(stderr=True)
            self.bar = Progress(
                *columns, text, console=console, transient=True, redirect_stdout=False
            )
            self.task = self.bar.add_task(self.name)
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def expect(self, total: int) -> None:
        """So many steps are to come."""
        self.total, self.done = total, 0
        if self.bar is not None:
            self.bar.update(self.task, total=total)

    def step(self, what: str) -> None:
        """A step begins, and so the one before it has ended."""
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, description=f"{self.name}: {what}")
        elif time.monotonic() > self.next_line:
            say(f"{self.name} {self.done}/{self.total}: {what}", sys.stderr)
            self.next_line = time.monotonic() + NEXT_LINE_AFTER
        self.done += 1
