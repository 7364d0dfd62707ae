"""Runs that differ in their seed alone, as one group with one label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.dotted import label
from reports.differences import SEED, Values
from reports.run_files import RunFiles


@dataclass
class Group:
    """Runs of one setup.

    Attributes:
        label: what sets the setup apart, e.g. `lr=0.001`.
        values: the same by key.
        runs: by seed, ascending.
    """

    label: str
    values: dict[str, str]
    runs: dict[int, RunFiles] = field(default_factory=dict)

    def figures(self, key: str) -> dict[int, float]:
        """A figure of results.json by seed, of the runs that have it."""
        found = {seed: (run.results or {}).get(key) for seed, run in self.runs.items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}

    def mean(self, key: str) -> float | None:
        """The mean of a figure over the seeds; None where no run has it."""
        return mean_of(list(self.figures(key).values()))

    def shared(self, key: str) -> Any:
        """A value of results.json that all runs share, else None."""
        found = {(run.results or {}).get(key) for run in self.runs.values()}
        return found.pop() if len(found) == 1 else None


def mean_of(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None


def group_runs(runs: Sequence[RunFiles], differing: Values, name: str) -> list[Group]:
    """The groups, in the order of their first runs; `name`: of one that nothing sets apart.

    A seed that comes again with the same setup says nothing of the spread between seeds: such a
    run begins a group of its own, ` (2)`.
    """
    groups: dict[tuple[str, int], Group] = {}
    for place, run in enumerate(runs):
        values = {key: v[place] for key, v in differing.items() if key != SEED}
        seed, again = seed_of(run), 1
        key = label(values)
        while (key, again) in groups and seed in groups[key, again].runs:
            again += 1
        called = (key or name) + (f" ({again})" if again > 1 else "")
        groups.setdefault((key, again), Group(called, values)).runs[seed] = run
    for group in groups.values():
        group.runs = dict(sorted(group.runs.items()))
    return list(groups.values())


def seed_of(run: RunFiles) -> int:
    """The seed of a run; 0, the default, where its config does not say it."""
    seed = run.config.get(SEED, 0)
    return seed if isinstance(seed, int) else 0


def common_name(directories: Sequence[Path]) -> str:
    """The last part of the path that runs have in common."""
    whole = [os.path.abspath(path) for path in directories]
    return Path(os.path.commonpath(whole)).name or "runs"
