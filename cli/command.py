"""One way into every command: Hydra composes, we check, then the task runs.

Hydra's output directory and logging are off (configs/command.yaml), so that nothing is written
before the whole config has been found right. Whatever the user got wrong, in Hydra's grammar or in
ours, leaves in the same form: a line or two for each mistake on stderr, exit status 2.
"""

import errno
import io
import os
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cli.arguments import check_arguments
from cli.compose import CONFIGS, check_overrides, composed, explain, plain
from cli.errors import FULL, UserError
from cli.help import help_text
from cli.overrides import Overrides, jobs_of, split_arguments, with_words
from common.lock import release_all
from common.signals import Stopped, raised

COMMAND = shlex.join(["python", *sys.argv])  # as typed, before Hydra's quoting is put on

# The system's words for what is no mistake of the user's
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)

Check = Callable[[dict[str, Any], Overrides], None]
MOST_JOBS = 1000  # of a sweep that are looked at beforehand

_job_start = [time.time()]


def seconds_since_start() -> float:
    """Wall clock since the process began; in a sweep, since the job before this one ended."""
    return time.time() - _job_start[0]


def run_command(
    task: Callable[[DictConfig, Overrides], Any],
    config_name: str,
    check: Check | None = None,
    words: str | None = None,
) -> None:
    """Run `task(config, overrides)` on `configs/<config_name>.yaml` under argv's overrides.

    `config` is the composed config, `overrides` the user's own words for this job; `check` raises a
    UserError for what is wrong with them, and is asked of all jobs of a sweep beforehand. `words`
    names the list in which arguments that are no `key=value` are gathered, as paths. Exit
    status 2 after a mistake of the user's, 1 where the system cannot read or write a file, 130 and
    143 after SIGINT (Ctrl-C) and SIGTERM; all else that is raised is a bug and shows its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has not every character
    # Threads that wait must not spin: beside any other program they would cost most of the speed.
    # It is read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    threading.excepthook = _tell_of_a_thread
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing: we do the telling
    try:
        with raised(), tempfile.TemporaryDirectory(prefix="ropewalk-") as scratch:
            _run_hydra(task, config_name, scratch, check, words)
    except UserError as error:
        _refuse(error)
    except Stopped as stop:
        print(f"\n{stop}", file=sys.stderr)
        sys.exit(stop.status)


def _refuse(error: UserError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _tell_of_a_thread(failure: threading.ExceptHookArgs) -> None:
    """As Python does, but for a thread that keeps its failure for who writes next.

    TensorBoard's does; the command then ends by that failure.
    """
    if not isinstance(getattr(failure.thread, "exception", None), OSError):
        threading.__excepthook__(failure)


def _fail(error: OSError) -> NoReturn:
    """What the system refused: a full disk, a directory that is read-only or has vanished."""
    if isinstance(error, ChildProcessError):  # ours, with words of its own
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    unwritten = "stdout: " if _discard_output() else ""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else unwritten
    way_out = "see that it is there and can be read and written"
    if error.errno in FULL:
        way_out = "make room there"
    elif error.errno in REFUSED:
        way_out = "give it to this user, or take a place that can be written"
    print(f"error: {where}{error.strerror or error}; {way_out}", file=sys.stderr)
    sys.exit(1)


def _discard_output() -> bool:
    """Let what stdout still holds go nowhere, if it cannot be written; whether that is so."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _check_jobs(overrides: Overrides, config_name: str, check: Check) -> None:
    """Check all jobs of a sweep before the first one runs."""
    for job in map(Overrides, islice(jobs_of(overrides), MOST_JOBS)):
        try:
            check(plain(composed(config_name, job.lines)), job)
        except (HydraException, OmegaConfBaseException):
            continue  # the job itself will say it
        except UserError as error:
            changed = [line for line in job.lines if line not in overrides.lines]
            raise UserError(f"{error}\n       in the job {' '.join(changed)}") from error


def _run_hydra(
    task: Callable[..., Any],
    config_name: str,
    scratch: str,
    check: Check | None,
    words: str | None,
) -> None:
    arguments = with_words(sys.argv[1:], words) if words else sys.argv[1:]
    check_arguments(arguments, config_name)
    lines, flags = split_arguments(arguments)
    typed = Overrides(lines)
    check_overrides(typed, flags, config_name)
    if check is not None and {"-m", "--multirun"} & set(flags):
        _check_jobs(typed, config_name, check)

    def job(config: DictConfig) -> Any:
        composing.clear()
        try:
            result = task(config, Overrides(HydraConfig.get().overrides.task))
            sys.stdout.flush()  # here: at the interpreter's exit nobody could tell of a full disk
            return result
        except UserError as error:
            _refuse(error)  # here: Hydra would print a line of its own about any Exception
        except OmegaConfBaseException as error:
            _refuse(UserError(explain(error, typed, config_name)))
        except BrokenPipeError:  # `| head` has seen enough
            _discard_output()
            sys.exit(0)
        except OSError as error:
            _fail(error)
        finally:
            release_all()
            _job_start[0] = time.time()

    # Hydra's parser wants all overrides in a row, and its sweeper to write a multirun.yaml.
    sys.argv[1:] = [f"hydra.sweep.dir={scratch}", *lines, *flags]
    composing = [True]
    try:
        if {"-h", "--help"} & set(flags):
            print(help_text(config_name, lines))
            return
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(job)()
    except (UserError, SystemExit):
        raise
    except Exception as error:
        if not composing:
            raise
        raise UserError(explain(error, typed, config_name)) from error
