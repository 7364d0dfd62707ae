"""The jobs of a sweep (`-m`): what each is called, where its run goes, and what is said of it."""

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from cli.names import LONGEST, cut
from cli.overrides import Overrides, jobs_of
from cli.rundir import CONFIG
from common import dotted
from common.terminal import say
from training.kept import RESULTS

MOST_JOBS = 1000  # of a sweep that are looked at beforehand
_FORBIDDEN = str.maketrans({c: "_" for c in '/\\:*?"<>|'})  # in a name, on one system or another


class Sweep:
    """All jobs of one command.

    Attributes:
        command: what was typed.
        labels: one for each job in order; None where a sweeper finds the jobs, or they are many.
        directory: `runs/<name>/<timestamp>`, of the jobs' runs; None where there is none.
    """

    def __init__(self, command: Overrides) -> None:
        self.command = command
        self.labels = _labels(command)
        self.directory: Path | None = None
        self.seconds: list[float] = []  # that each job took, of those that ran in this process
        self.began: float | None = None  # when the job did that runs now

    def job(self, lines: Sequence[str], number: int, choices: Mapping[Any, Any]) -> Overrides:
        """What Hydra gives to job `number`, counted from 0."""
        job = Overrides(lines, command=self.command, choices=choices)
        if self.directory is not None:
            job.directory = self.directory / self._label(job, number)
        return job

    def announce(self, job: Overrides, number: int) -> None:
        """Which job begins and how long all that are left will take; first, the sweep itself."""
        total = len(self.labels) if self.labels else None
        self.began = None if self._has_ended(self._label(job, number)) else time.monotonic()
        if number == 0 and self.directory is not None:
            jobs = f"{total} jobs in " if total else ""
            curves = shlex.join(["tensorboard", "--logdir", str(self.directory)])
            say(f"sweep: {jobs}{self.directory}; {curves}")
        of = f" of {total}" if total else ""
        to_run = [one for one in (self.labels or [])[number:] if not self._has_ended(one)]
        left = f" ({_left(self.seconds, len(to_run))})" if to_run and self.seconds else ""
        say(f"job {number + 1}{of}: {self._label(job, number)}{left}")

    def ended(self) -> None:
        """The job that was announced has ended."""
        if self.began is not None:
            self.seconds.append(time.monotonic() - self.began)

    def runs(self) -> list[Path]:
        """The runs in the sweep's directory, in the order of its jobs."""
        if self.directory is None:
            return []
        order = {label: number for number, label in enumerate(self.labels or [])}
        found = [path for path in self.directory.glob("*") if (path / CONFIG).is_file()]

        def key(run: Path) -> tuple[int, float, str]:
            return order.get(run.name, len(order)), (run / CONFIG).stat().st_mtime, run.name

        return sorted(found, key=key)

    def _has_ended(self, label: str) -> bool:
        """Whether a job's run is there to its end, in a sweep that goes on."""
        return self.directory is not None and (self.directory / label / RESULTS).exists()

    def _label(self, job: Overrides, number: int) -> str:
        known = self.labels is not None and number < len(self.labels)
        return self.labels[number] if known and self.labels else label(job, number)


def label(job: Overrides, number: int) -> str:
    """`lr=0.001,seed=1`: what a job has of its own, as the name of a directory."""
    swept = [one for one in job.parsed if one.key_or_group in job.swept]
    values = {one.key_or_group.replace("/", "."): _value(one) for one in swept}
    text = dotted.label(values).translate(_FORBIDDEN)
    text = "".join(c if c.isprintable() else "_" for c in text).strip() or "run"
    if len(text.encode()) <= LONGEST:
        return text
    end = f"-job{number + 1}"
    return cut(text, LONGEST - len(end)).rstrip() + end


def _labels(command: Overrides) -> list[str] | None:
    if any(key.startswith(("hydra/sweeper", "hydra.sweeper")) for key in command.typed):
        return None
    jobs = list(islice(jobs_of(command), MOST_JOBS + 1))
    if not 0 < len(jobs) <= MOST_JOBS:
        return None
    seen: Counter[str] = Counter()
    labels = []
    for number, lines in enumerate(jobs):
        text = label(Overrides(lines, command=command), number)
        seen[text] += 1
        labels.append(text if seen[text] == 1 else f"{text}-{seen[text]}")
    return labels


def _value(override: Override) -> str:
    value = override.value()
    return value if isinstance(value, str) else str(override.get_value_element_as_str())


def _left(seconds: Sequence[float], jobs: int) -> str:
    """The time that so many jobs will take, if they take as long as those before."""
    whole = round(sum(seconds) / len(seconds) * jobs)
    minutes = f"{whole // 60}:{whole % 60:02d}"
    hours = f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"about {hours if whole >= 3600 else minutes} left"
