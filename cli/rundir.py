"""The directory of a run: named, claimed, and the first thing written into it."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cli.errors import UserError
from common.files import write_text

RUNS = Path("runs")
CLAIM = ".hydra"  # the first thing a run writes: a directory that has it holds a run
LAST = Path("checkpoints") / "last.ckpt"  # what it goes on from
RESULTS = "results.json"  # the last thing: a run that has it is finished


def check_free(run_dir: str | None) -> None:
    """Refuse a `run_dir` that cannot be made or that already holds a run."""
    if run_dir is None:
        return
    path = Path(run_dir)
    for part in (path, *path.parents):
        if os.path.exists(part) and not os.path.isdir(part):
            raise UserError(f"run_dir={run_dir}: {part} is a file; take run_dir=runs/mine")
    if not os.path.exists(path / CLAIM):
        return
    how = f"resume={run_dir} goes on with that one"
    if not (path / LAST).exists():
        how = "resume=auto begins that one anew, which has no checkpoint yet"
    raise UserError(f"run_dir={run_dir}: already holds a run; take another, or {how}")


def free_directory(run_dir: str | None, name: str) -> Path:
    """Where a new run goes: `run_dir`, or runs/<name>/<timestamp>. Nothing is made yet."""
    if run_dir is not None:
        check_free(run_dir)
        return Path(run_dir)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        path = RUNS / name / (stamp if number == 1 else f"{stamp}-{number}")
        if not path.exists():
            return path
    raise UserError(f"{RUNS / name / stamp}: a thousand runs in this second; give run_dir=")


def claim(path: Path) -> bool:
    """Make the run's directory, this process's alone; False where another was faster."""
    try:
        (path / CLAIM).mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(
            f"run_dir={path}: cannot be made ({error.strerror}); take a directory you may write to"
        ) from error
    return True


def save_config(directory: Path, config: dict[str, Any], overrides: list[str]) -> None:
    """`.hydra/config.yaml` and `.hydra/overrides.yaml`, as Hydra itself would write them."""
    write_text(directory / CLAIM / "config.yaml", OmegaConf.to_yaml(config))
    write_text(directory / CLAIM / "overrides.yaml", OmegaConf.to_yaml(overrides))


def evaluation_directory(run: Path, output_dir: str | None) -> Path:
    """Where an evaluation's results go: `output_dir`, or a new `evaluations/<timestamp>`."""
    if output_dir is not None and (Path(output_dir) / CLAIM).exists():
        raise UserError(f"output_dir={output_dir}: holds a run, whose files it would replace")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    path = Path(output_dir) if output_dir is not None else run / "evaluations" / stamp
    try:
        path.mkdir(parents=True, exist_ok=output_dir is not None)
    except OSError as error:
        raise UserError(
            f"output_dir={path}: cannot be made ({error.strerror}); take another"
        ) from error
    return path
