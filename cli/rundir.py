"""The directory of a run: named, claimed, held, and the first thing written into it."""

import os
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cli.errors import FULL, UserError
from common.files import write_text
from common.lock import Held, Lock, hold
from reports.run_files import CONFIG
from training.kept import candidates

RUNS = Path("runs")
CLAIM = ".hydra"  # the first thing a run writes: a directory that has it holds a run
EVALUATIONS = "evaluations"


def check_free(run_dir: str | None) -> None:
    """Refuse a `run_dir` that cannot be made or that already holds a run."""
    if run_dir is None:
        return
    path = Path(run_dir)
    for part in (path, *path.parents):
        if os.path.exists(part) and not os.path.isdir(part):
            raise UserError(f"run_dir={run_dir}: {part} is a file; take run_dir=runs/mine")
        if part not in (path, Path()) and os.path.lexists(part / CLAIM):
            raise UserError(f"run_dir={run_dir}: {part} is a run; take run_dir=runs/mine")
    if not os.path.lexists(path / CLAIM):
        return
    how = f"{shlex.quote(f'resume={run_dir}')} goes on with that one"
    if not candidates(path / "checkpoints"):
        how = "resume=auto begins that one anew, which has no checkpoint yet"
    raise UserError(f"run_dir={run_dir}: already holds a run; take another, or {how}")


def run_of(file: Path) -> Path | None:
    """The run that a file lies in, at whatever depth; None where it lies in none."""
    parents = file.resolve().parents
    return next((parent for parent in parents if os.path.isfile(parent / CONFIG)), None)


def free_directory(run_dir: str | None, name: str, job: Path | None = None) -> Path:
    """Where a new run goes: `run_dir`, or runs/<name>/<timestamp>. Nothing is made yet.

    `job`: where it goes as a job of a sweep.
    """
    if run_dir is not None:
        check_free(run_dir)
        return Path(run_dir)
    wanted = job or RUNS / name / datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if not os.path.lexists(path):
            return path
    raise UserError(f"{wanted}: a thousand runs of this name; give run_dir=")


def claim(path: Path) -> Lock | None:
    """Make the run's directory, this process's alone; None where another was faster."""
    try:
        (path / CLAIM).mkdir(parents=True)
    except FileExistsError:
        if os.path.lexists(path / CLAIM):
            return None
        raise UserError(f"run_dir={path}: cannot be made; take a directory") from None
    except OSError as error:
        if error.errno in FULL:
            raise  # no mistake of the user's
        raise UserError(
            f"run_dir={path}: cannot be made ({error.strerror}); take a directory you may write to"
        ) from error
    try:
        return hold(path)
    except BaseException:
        (path / CLAIM).rmdir()
        raise


def hold_run(run: Path, asked: str) -> Lock:
    """Be the only process that trains `run`; UserError where another one does.

    `asked`: what the user typed.
    """
    check_links(run, asked)
    try:
        return hold(run)
    except Held as held:
        raise UserError(
            f"{asked}: {held} is training it; wait for its end, or begin another with "
            "run_dir=runs/mine"
        ) from held


def check_links(directory: Path, asked: str, root: Path | None = None) -> None:
    """Refuse what leads out of a run by a link, or is neither a file nor a directory.

    `root`: the run, where `directory` is a part of it. Whoever made the run may have put them
    there, so that what is written into it would go elsewhere.
    """
    home = os.path.realpath(root or directory)
    for path in _below(directory):
        real = os.path.realpath(path)
        if not Path(real).is_relative_to(home):
            raise UserError(
                f"{asked}: {path} leads out of the run by a link, to {real}; put a copy there"
            )
        if os.path.exists(real) and not (os.path.isdir(real) or os.path.isfile(real)):
            raise UserError(f"{asked}: {path} is neither a file nor a directory; remove it")


def save_config(directory: Path, config: dict[str, Any], overrides: list[str]) -> None:
    """`.hydra/config.yaml` and `.hydra/overrides.yaml`, as Hydra itself would write them."""
    write_text(directory / CONFIG, OmegaConf.to_yaml(config))
    write_text(directory / CLAIM / "overrides.yaml", OmegaConf.to_yaml(overrides))


def evaluation_directory(evaluations: Path, output_dir: str | None) -> Path:
    """Where an evaluation's results go: `output_dir`, or a new `<timestamp>` in `evaluations`.

    It is held until the command ends. UserError where another process writes into it, or where a
    link leads out of a run.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    path = Path(output_dir) if output_dir is not None else evaluations / stamp
    asked = f"output_dir={path}"
    if (path / CLAIM).exists():
        raise UserError(f"{asked}: holds a run, whose files it would replace")
    _check_part_of_run(path, asked)
    try:
        path.mkdir(parents=True, exist_ok=output_dir is not None)
        hold(path)
    except OSError as error:
        raise UserError(f"{asked}: cannot be made ({error.strerror}); take another") from error
    except Held as held:
        raise UserError(f"{asked}: {held} is writing into it; take another") from held
    return path


def _check_part_of_run(path: Path, asked: str) -> None:
    """Refuse links that lead out of the run that `path` is a part of, if it is one of a run."""
    for parent in Path(os.path.abspath(path)).parents:
        if (parent / CLAIM).exists():
            check_links(path, asked, root=parent)


def _below(directory: Path) -> Iterator[str]:
    """`directory` and all that lies in it; links are named, not followed."""
    yield os.fspath(directory)
    for parent, directories, files in os.walk(directory):
        yield from (os.path.join(parent, name) for name in (*directories, *files))
