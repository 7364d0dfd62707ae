"""Progress of what may take long before a run begins: downloads, reading, tokenizing."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from common.terminal import is_quiet, say

# Called with what is done to what, how much of it is done and how much there is in all.
OnProgress = Callable[[str, int, int], None]

LINES_EVERY = 10.0  # seconds, without a terminal


def silent(what: str, done: int, total: int) -> None:
    """An `OnProgress` that shows nothing."""


class WorkProgress:
    """An `OnProgress` that shows itself on stderr, once the work has taken `delay` seconds.

    On a terminal it is a bar and the time left for each kind of work; without one it is a line now
    and then. To be used as a context manager, so that the display ends with the work.
    """

    def __init__(self, delay: float = 5.0) -> None:
        self.next_at: float | None = None  # when something is to be shown
        self.delay = delay
        self.began: dict[str, float] = {}
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=is_quiet(),
        )
        self.show = self._draw if console.is_terminal else self._print
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "WorkProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        # Stopping a display that never started would still print an empty line.
        if self.progress.live.is_started:
            self.progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note that `done` of `total` of the work called `what` is done."""
        now = time.monotonic()
        self.began.setdefault(what, now)
        self.next_at = now + self.delay if self.next_at is None else self.next_at
        self.show(what, done, total, now)

    def _draw(self, what: str, done: int, total: int, now: float) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(self.tasks[what], completed=done)
        if self.next_at is not None and now >= self.next_at:
            self.progress.start()

    def _print(self, what: str, done: int, total: int, now: float) -> None:
        if self.next_at is None or now < self.next_at or not done:
            return
        self.next_at = now + LINES_EVERY
        seconds = round((now - self.began[what]) * (total - done) / done)
        left = f"{seconds // 60}:{seconds % 60:02d}"
        say(f"{what}: {100 * done // max(total, 1)} %, left {left}", sys.stderr)
