"""One way into every command: Hydra composes, we check, then the task runs.

Hydra's output directory and logging are off (configs/command.yaml), so that nothing is written
before the whole config has been found right. Whatever the user got wrong, in Hydra's grammar or in
ours, leaves in the same form: one or two lines on stderr, exit status 2.
"""

import io
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cli.errors import UserError
from cli.overrides import check_overrides, explain, quote_verbatim

COMMAND = shlex.join(["python", *sys.argv])  # as typed, before Hydra's quoting is put on
CONFIGS = Path(__file__).parent.parent / "configs"


_job_start = [time.time()]


def seconds_since_start() -> float:
    """Wall clock since the process began; in a sweep, since the job before this one ended."""
    return time.time() - _job_start[0]


def run_command(task: Callable[[DictConfig, list[str]], Any], config_name: str) -> None:
    """Run `task(config, overrides)` on `configs/<config_name>.yaml` under argv's overrides.

    `config` is the composed config, `overrides` the user's own words for this job. Exit status 2
    after a mistake of the user's, 130 after Ctrl-C; everything else that is raised is a bug and
    shows its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has not every character
    # Threads that wait must not spin: beside any other program they would cost most of the speed.
    # It is read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing: we do the telling
    try:
        with tempfile.TemporaryDirectory(prefix="ropewalk-") as scratch:
            _run_hydra(task, config_name, scratch)
    except UserError as error:
        _refuse(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(error: UserError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _run_hydra(task: Callable[..., Any], config_name: str, scratch: str) -> None:
    def job(config: DictConfig) -> Any:
        composing.clear()
        try:
            return task(config, list(HydraConfig.get().overrides.task))
        except UserError as error:
            _refuse(error)  # here: Hydra would print a line of its own about any Exception
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        finally:
            _job_start[0] = time.time()

    arguments = [quote_verbatim(argument) for argument in sys.argv[1:]]
    check_overrides(arguments, CONFIGS, config_name)
    # Hydra's parser wants all overrides in a row, and its sweeper to write a multirun.yaml.
    typed = [a for a in arguments if "=" in a and not a.startswith("-")]
    flags = [a for a in arguments if a not in typed]
    sys.argv[1:] = [f"hydra.sweep.dir={scratch}", *typed, *flags]
    composing = [True]
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(job)()
    except (UserError, SystemExit):
        raise
    except Exception as error:
        if not composing and not isinstance(error, OmegaConfBaseException):
            raise
        raise UserError(explain(error, arguments, CONFIGS, config_name)) from error


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved config as plain dictionaries, lists and scalars."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return container
