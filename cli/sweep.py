"""What is done when all jobs of a sweep have ended."""

from pathlib import Path


def after(directories: list[Path]) -> None:
    """Compare the runs of a sweep, given in the order of its jobs."""
