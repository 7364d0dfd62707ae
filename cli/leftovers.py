"""A run that fails before its first step leaves the disk as it was."""

import shutil
from pathlib import Path

from cli.rundir import CONFIG
from common.files import write_bytes
from training.kept import RESULTS

# What a run that goes on writes anew, or cuts back, before its first step
REWRITTEN = (
    *(RESULTS, "environment.json", "metrics.jsonl", "csv/metrics.csv"),
    *(CONFIG, CONFIG.with_name("overrides.yaml")),
)


class Leftovers:
    """What has come into a directory, and which directories above it, since this was made.

    Nobody but this process may write there meanwhile, or before it holds the directory, at all.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.before = set(directory.rglob("*")) if directory.exists() else None
        paths = [directory / name for name in REWRITTEN]
        self.contents = {path: path.read_bytes() for path in paths if path.is_file()}
        self.missing = [path for path in (directory, *directory.parents) if not path.exists()]

    def remove(self) -> None:
        """Remove it: files, folders, and the directory itself if it was not there.

        What a run that goes on has written anew is what it was.
        """
        if self.before is None:
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            self._remove_new()
        for parent in self.missing[1:]:
            try:
                parent.rmdir()
            except OSError:  # another run has come into it
                return

    def _remove_new(self) -> None:
        assert self.before is not None
        for path in sorted(self.directory.rglob("*"), reverse=True):  # what is inside first
            if path in self.before:
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        for path, content in self.contents.items():
            if not path.exists() or path.read_bytes() != content:
                write_bytes(path, content)
