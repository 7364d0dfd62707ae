"""Which run goes on, and from which of its checkpoints: the newest one that is whole.

torch is loaded only where `resume=auto` has found one that seems whole.
"""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from cli.errors import UserError
from cli.rundir import CONFIG, RUNS, run_of
from common.lock import is_held
from common.sealed import damage
from training.kept import LAST, RESULTS, candidates, newest_whole


def find_unfinished(
    run_dir: str | None,
    name: str,
    is_other: Callable[[Path], bool] = lambda run: False,
    runs: Sequence[Path] | None = None,
) -> tuple[Path, Path] | None:
    """What `resume=auto` goes on with, run directory and checkpoint: the newest one of `name`.

    `runs`: in a sweep, those of the job, in whose place they are looked through. One that another
    process is training, or that `is_other`, is passed over, unless it is `run_dir`. A line says so
    where the checkpoint is not the last one: one that is damaged, or holds what is refused, is
    passed over. UserError where `run_dir` has checkpoints and none of them will do.
    """
    if run_dir:
        runs = [Path(run_dir)]
    for run in runs or sorted((RUNS / name).glob("*"), reverse=True):
        if (run / RESULTS).exists() or (run_dir is None and (is_held(run) or is_other(run))):
            continue
        if checkpoint := _newest_usable(run):
            return run, checkpoint
        if candidates(run / "checkpoints"):
            lost = f"{run}: no checkpoint in there is whole ({_wrong(run / 'checkpoints' / LAST)})"
            if run_dir:
                raise UserError(f"run_dir={lost}; take another run_dir, and keep this to look at")
            print(f"resume=auto: {lost}; looking for another run")
    return None


def same_label(job: Path) -> list[Path]:
    """Where the run of a sweep's job may lie: `job`, or `job`-2 and so on beside a lost one."""
    return [job, *sorted(path for path in job.parent.glob("*") if _is_again(path.name, job.name))]


def _is_again(name: str, label: str) -> bool:
    return name.startswith(f"{label}-") and name[len(label) + 1 :].isdecimal()


def find_run(resume: str) -> tuple[Path, Path]:
    """The run directory and the checkpoint that a path means.

    UserError where it is none, or is damaged: it names the newest one that is whole.
    """
    path = Path(resume)
    if os.path.isfile(path):
        run, checkpoint = run_of(path) or path.parent, path
    else:
        run, checkpoint = path, path / "checkpoints" / LAST
    there = os.path.isfile(run / CONFIG)
    if not there or not (os.path.isfile(checkpoint) or candidates(checkpoint.parent)):
        raise UserError(
            f"resume={resume}: holds no run to go on with; give a run directory that has "
            f"checkpoints/{LAST}, or resume=auto"
        )
    if not damage(checkpoint):
        return run, checkpoint
    what = f"resume={resume}: {_wrong(checkpoint)}"
    beside, own = checkpoint.parent, run / "checkpoints"  # a callback saves in one of its own
    if other := newest_whole(beside, but=checkpoint) or newest_whole(own):
        command = shlex.join(["python", "train.py", f"resume={other}"])
        raise UserError(f"{what}; the newest whole one goes on with: {command}")
    raise UserError(f"{what}, and no other one in there is whole; start a new run")


def _newest_usable(run: Path) -> Path | None:
    """The checkpoint that a run goes on from; a line says so where it is not the last one."""
    directory = run / "checkpoints"
    passed: list[str] = []
    for path in dict.fromkeys([directory / LAST, *candidates(directory)]):
        wrong = _wrong(path)
        if wrong is None:
            if passed:
                print(f"resume=auto: {run}: {', '.join(passed)}: going on from {path.name}")
            return path
        passed.append(wrong)
    return None


def _wrong(checkpoint: Path) -> str | None:
    """Why nothing can go on from one. Only one that seems whole is read with torch."""
    if not checkpoint.exists():
        return f"{checkpoint.name} is missing"
    if what := damage(checkpoint):
        return f"{checkpoint.name} is damaged ({what})"
    from training.checkpoint_files import refusal

    what = refusal(checkpoint)
    return f"{checkpoint.name} is refused: {what}" if what else None
