"""A run that fails before its first step leaves the disk as it was."""

import shutil
from pathlib import Path


class Leftovers:
    """What has come into a directory, and which directories above it, since this was made.

    Nobody but this process may write there meanwhile, or before it holds the directory, at all.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.before = set(directory.rglob("*")) if directory.exists() else None
        self.missing = [path for path in (directory, *directory.parents) if not path.exists()]

    def remove(self) -> None:
        """Remove it: files, folders, and the directory itself if it was not there."""
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
