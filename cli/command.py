"""One way into every command: Hydra composes, we check, then the task runs.

Hydra's output directory and logging are off (configs/command.yaml), so that nothing is written
before the whole config has been found right. Whatever the user got wrong, in Hydra's grammar or in
ours, leaves in the same form: a line or two for each mistake on stderr, exit status 2.
"""

import io
import os
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cli.arguments import check_arguments, known_flags
from cli.completion import FLAGS, complete
from cli.compose import check_overrides, check_users_options, composed, explain, plain
from cli.endings import end_by_mistake, end_by_system, failures_told, tell_of_a_thread
from cli.errors import UserError
from cli.folders import CONFIGS, use_folder
from cli.help import help_text
from cli.jobs import MOST_JOBS, Sweep
from cli.overrides import Overrides, jobs_of, quoted, split_arguments, with_words
from common.lock import release_all
from common.signals import Stopped, raised
from common.terminal import set_quiet

COMMAND = shlex.join(["python", *sys.argv])  # as typed, before Hydra's quoting is put on

Check = Callable[[dict[str, Any], Overrides], None]

_job_start = [time.time()]


def seconds_since_start() -> float:
    """Wall clock since the process began; in a sweep, since the job before this one ended."""
    return time.time() - _job_start[0]


def run_command(
    task: Callable[[DictConfig, Overrides], Any],
    config_name: str,
    check: Check | None = None,
    after_sweep: Callable[[list[Path]], None] | None = None,
    words: str | None = None,
) -> None:
    """Run `task(config, overrides)` on `configs/<config_name>.yaml` under argv's overrides.

    `config` is the composed config, `overrides` the user's own words for this job. Exit status 2
    after a mistake of the user's, 1 where the system cannot read or write a file, 130 and 143 after
    SIGINT (Ctrl-C) and SIGTERM; all else that is raised is a bug and shows its traceback.

    Args:
        check: raises a UserError for what is wrong with a job; asked of all jobs of a sweep
            before the first one runs.
        after_sweep: gets the runs of a sweep in order, when all of its jobs have ended; with it,
            they lie in one directory.
        words: the list in which arguments that are no `key=value` are gathered, as paths.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has not every character
    # Threads that wait must not spin: beside any other program they would cost most of the speed.
    # It is read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    threading.excepthook = tell_of_a_thread
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing: we do the telling
    try:
        if set(FLAGS) & set(sys.argv[1:]):
            return complete(sys.argv[0], sys.argv[1:], config_name)
        with raised(), tempfile.TemporaryDirectory(prefix="ropewalk-") as scratch:
            sys.argv[1:] = with_words(sys.argv[1:], words) if words else sys.argv[1:]
            _Command(task, config_name, scratch).run(check, after_sweep)
    except UserError as error:
        end_by_mistake(error)
    except Stopped as stop:
        print(f"\n{stop}", file=sys.stderr)
        sys.exit(stop.status)


def _check_jobs(overrides: Overrides, config_name: str, check: Check) -> None:
    """Check all jobs of a sweep before the first one runs."""
    jobs = islice(jobs_of(overrides), MOST_JOBS)
    for job in (Overrides(lines, command=overrides) for lines in jobs):
        try:
            check(plain(composed(config_name, job.lines)), job)
        except (HydraException, OmegaConfBaseException):
            continue  # the job itself will say it
        except UserError as error:
            changed = [line for line in job.lines if line not in overrides.lines]
            raise UserError(f"{error}\n       in the job {' '.join(changed)}") from error


class _Command:
    """What was typed, understood once, and the jobs that Hydra makes of it."""

    def __init__(self, task: Callable[..., Any], config_name: str, scratch: str) -> None:
        """UserError for what is wrong with the words themselves."""
        self.task, self.config_name, self.scratch = task, config_name, scratch
        check_arguments(sys.argv[1:], config_name)
        lines, flags = split_arguments(sys.argv[1:])
        self.flags, self.quiet, self.folder = known_flags(flags)
        set_quiet(self.quiet)
        use_folder(self.folder)
        self.typed = Overrides(lines)
        check_overrides(self.typed, flags, config_name)
        self.sweep = Sweep(self.typed) if {"-m", "--multirun"} & set(flags) else None
        self.composing = [True]

    def run(
        self, check: Check | None, after_sweep: Callable[[list[Path]], None] | None = None
    ) -> None:
        """Show the help, or let Hydra run the job, or the jobs and what comes after them."""
        with self._explained():
            check_users_options(self.typed, self.config_name)
            if {"-h", "--help"} & set(self.flags):
                print(help_text(self.config_name, self.typed.lines))
                return
            if check is not None and self.sweep:
                _check_jobs(self.typed, self.config_name, check)
        try:
            with self._explained(), self._placed(after_sweep is not None):
                self._run_jobs()
        except Stopped as stop:
            if self.sweep is None or self.sweep.directory is None:
                raise
            how = "the sweep goes on with the same command and resume=auto"
            raise Stopped(stop.number, "; ".join(filter(None, [stop.what, how]))) from None
        if self.sweep and after_sweep and (runs := self.sweep.runs()):
            with failures_told():
                after_sweep(runs)

    def _placed(self, leaves_runs: bool) -> AbstractContextManager[None]:
        if not (self.sweep and leaves_runs) or {"-c", "--cfg"} & set(self.flags):
            return nullcontext()
        from cli.sweep_directory import sweep_directory

        return sweep_directory(self.sweep)

    def _run_jobs(self) -> None:
        # Hydra's parser wants all overrides in a row, and its sweeper to write a multirun.yaml.
        scratch = f"hydra.sweep.dir={quoted(self.scratch)}"
        sys.argv[1:] = [scratch, *self.typed.lines, *self.flags]
        configs, name = str(CONFIGS), self.config_name
        hydra.main(version_base="1.3", config_path=configs, config_name=name)(self._job)()

    def _job(self, config: DictConfig) -> Any:
        """One job, in this process or in one that a launcher has started."""
        self.composing.clear()
        set_quiet(self.quiet)
        use_folder(self.folder)
        try:
            with failures_told():
                return self.task(config, self._overrides())
        except OmegaConfBaseException as error:
            end_by_mistake(UserError(explain(error, self.typed, self.config_name)))
        finally:
            release_all()
            _job_start[0] = time.time()
            if self.sweep:
                self.sweep.ended()

    def _overrides(self) -> Overrides:
        """What the user's words are in this job, which is announced where there are several."""
        hydras = HydraConfig.get()
        lines, choices = list(hydras.overrides.task), hydras.runtime.choices
        if self.sweep is None:
            return Overrides(lines, choices=choices)
        job = self.sweep.job(lines, hydras.job.num, choices)
        self.sweep.announce(job, hydras.job.num)
        return job

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever is raised before the first job is a mistake of the user's."""
        try:
            yield
        except (UserError, SystemExit):
            raise
        except Exception as error:
            if not self.composing:
                raise
            if isinstance(error, OSError) and not isinstance(error, HydraException):
                end_by_system(error)
            raise UserError(explain(error, self.typed, self.config_name)) from error
