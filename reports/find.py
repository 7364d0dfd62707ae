"""The runs that a person names: by directories, by globs, by the directory that holds them."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.run_files import is_run

_STAMP = re.compile(r"\d{8}-\d{6}(-\d+)?")  # runs/<name>/<timestamp>: of a run, or of a sweep
# What lies beside the runs of a sweep once they have been compared
OURS = re.compile(r"comparison(\.\w+)?|curves\.\w+|extrapolation\.\w+|report\.html")


def find_runs(words: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The runs that `words` name, each once, and those that were named again.

    A word is a run, a directory with runs in it at whatever depth, or a glob of either; `~` is
    the home directory. ValueError, a line for each, for words that name no run.
    """
    found: dict[str, Path] = {}
    again: list[Path] = []
    wrong: list[str] = []
    for word in words:
        paths, problem = _runs_of(word)
        wrong += [problem] if problem else []
        for path in paths:
            real = os.path.realpath(path)
            if real in found:
                again.append(path)
            found.setdefault(real, path)
    if wrong:
        raise ValueError("\n       ".join(wrong))
    return list(found.values()), list(dict.fromkeys(again))


def sweep_directory(runs: Sequence[Path]) -> Path | None:
    """The directory of the sweep whose runs these are, all of them; None where there is none."""
    parent = runs[0].parent
    if not _STAMP.fullmatch(Path(os.path.abspath(parent)).name) or is_run(parent):
        return None
    there = {os.path.realpath(run) for run in _below(parent)}
    return parent if there == {os.path.realpath(run) for run in runs} else None


def _runs_of(word: str) -> tuple[list[Path], str | None]:
    """The runs that one word names, or what is wrong with it."""
    path = Path(os.path.expanduser(word))
    if os.path.exists(path):
        runs = list(_below(path))
        if runs or (OURS.fullmatch(path.name) and not is_run(path.parent)):
            return runs, None
        return [], f"{word}: holds no run; name directories that train.py has printed"
    matches = sorted(glob.glob(os.fspath(path), recursive=True))
    runs = [run for match in matches for run in _below(Path(match))]
    if runs:
        return list(dict.fromkeys(runs)), None
    if matches:
        return [], f"{word}: matches no run; name directories that train.py has printed"
    return [], f"{word}: no such directory; name runs, e.g. runs/NAME/TIMESTAMP, or 'runs/*/*'"


def _below(path: Path) -> Iterator[Path]:
    """`path`, where it is a run, or the runs in it; runs hold no runs."""
    for parent, directories, _ in os.walk(path):
        if is_run(Path(parent)):
            directories.clear()
            yield Path(parent)
        directories[:] = sorted(name for name in directories if not name.startswith("."))
