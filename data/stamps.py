"""What tells that a file is still the one it was, without reading it."""

import os
from typing import NamedTuple


class Stamp(NamedTuple):
    """Four numbers of which at least one changes when a file is written, replaced or renamed.

    The time of the last change (ctime) is the system's own: it changes also where a program sets
    the time of the last writing (mtime) back, as `touch -d` and `rsync --times` do.
    """

    size: int  # bytes
    mtime_ns: int
    ctime_ns: int
    inode: int


def stamp(file: int | str | os.PathLike[str]) -> Stamp:
    """The stamp of an open file (its descriptor) or of a path. OSError if there is none."""
    status = os.stat(file)
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
