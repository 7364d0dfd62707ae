"""How groups look in every picture alike: their colours, and which are told apart at all."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.report.figures.style import COLOURS, Style
from reports.groups import Group

TOLD_APART = len(COLOURS)
OF_MANY = 6  # of more groups than that, the best are told apart
REST = Style("#c4c4c4", "-")
LONGEST_LABEL = 44


def looks(groups: Sequence[Group]) -> list[Style]:
    """A style for each group, which are sorted with the best first; grey for those that are not
    told apart."""
    colours = [*COLOURS[1:], COLOURS[0]]  # the first is grey itself
    shown = len(groups) if len(groups) <= TOLD_APART else OF_MANY
    return [Style(colours[i], "-") if i < shown else REST for i in range(len(groups))]


def rest(groups: Sequence[Group]) -> str:
    """What to say of the groups in grey; empty where there are none."""
    many = len(groups) - OF_MANY
    return f"; the best {OF_MANY} are named, {many} others grey" if _are_many(groups) else ""


def named(group: Group) -> str:
    """A group's label, cut where it is long."""
    label = group.label
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def _are_many(groups: Sequence[Group]) -> bool:
    return len(groups) > TOLD_APART
