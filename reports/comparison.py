"""Runs compared: everything that tables, files, pictures and pages are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reports.comparable import Comparable
from reports.differences import Values
from reports.groups import Group
from reports.run_files import RunFiles
from reports.statistics import Means

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table as text. `importance`: of each column; where it is narrow, 1 goes first, 0 never."""

    heads: list[str]
    rows: list[list[str]]
    importance: list[int]


@dataclass
class Comparison:
    """Runs compared.

    Attributes:
        title: how many runs, and of what.
        runs: the finished ones, those of the best group first.
        unfinished: those without results, which have no figures.
        labels: of `runs`, e.g. `lr=0.001,seed=1`.
        labels_of_unfinished: of `unfinished`.
        differing: the keys in which the finished runs differ; the values are those of `runs`.
        groups: runs that differ in their seed alone; the best first, where there is a best.
        comparable: by which figure they are compared, and why not by another.
        means: the groups compared by each figure that can be.
        verdict: which is best, by how much, whether that is more than noise; plain lines.
        notes: how the table is read.
        table: a row for each group; `single`: one for each run, where a group has several.
        figures: what was drawn, by name.
    """

    title: str
    runs: list[RunFiles]
    unfinished: list[RunFiles]
    labels: list[str]
    labels_of_unfinished: list[str]
    differing: Values
    groups: list[Group]
    comparable: Comparable
    means: dict[str, Means]
    verdict: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    table: Table = field(default_factory=lambda: Table([], [], []))
    single: Table | None = None
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def compared(self) -> Means | None:
        """The groups by the figure that they are compared by."""
        return self.means.get(self.comparable.figure or "")

    @property
    def has_seeds(self) -> bool:
        """Whether any group has several runs."""
        return any(len(group.runs) > 1 for group in self.groups)
