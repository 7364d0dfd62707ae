"""The tables of a comparison: a row for each group, and one for each run."""

from __future__ import annotations

from collections.abc import Sequence

from common.dotted import short_names
from reports.comparable import BPB, LOSS
from reports.comparison import Comparison, Table
from reports.contexts import AtLongest, at_longest
from reports.groups import Group
from reports.statistics import Interval

FORMS = {LOSS: "{:.4f}", BPB: "{:.3f}"}
TO_BEST = "to best"
EMPTY = "-"
Column = tuple[str, int, list[str]]  # head, importance, cells


def group_table(comparison: Comparison) -> Table:
    """A row for each group: what sets it apart, val/loss, its distance to the best, the rest."""
    groups, by = comparison.groups, comparison.comparable.figure
    columns = _key_columns([group.values for group in groups], [group.label for group in groups])
    if comparison.has_seeds:
        columns.append(("seeds", 0, [_seeds(group) for group in groups]))
    for key, head, importance in ((LOSS, LOSS, 0), (BPB, "bpb", 5)):
        if by != key:
            columns.append((head, importance, [_plain(group, key) for group in groups]))
            continue
        columns.append((key, 0, [_mean(comparison, key, i) for i in range(len(groups))]))
        if len(groups) > 1:
            columns.append((TO_BEST, 0, [_above(comparison, i) for i in range(len(groups))]))
    return _table([*columns, *_context_columns(groups), *_speed_columns(groups)])


def run_table(comparison: Comparison) -> Table:
    """A row for each run."""
    runs, labels = comparison.runs, comparison.labels
    values = [{k: v[i] for k, v in comparison.differing.items()} for i in range(len(runs))]
    alone = [Group(label, {}, {0: run}) for label, run in zip(labels, runs, strict=True)]
    return _table(
        [
            *_key_columns(values, labels),
            (LOSS, 0, [_plain(one, LOSS) for one in alone]),
            ("bpb", 5, [_plain(one, BPB) for one in alone]),
            *_context_columns(alone),
            *_speed_columns(alone),
            ("run", 1, [str(run.directory) for run in runs]),
        ]
    )


def _table(columns: Sequence[Column]) -> Table:
    return Table(
        heads=[head for head, _, _ in columns],
        rows=[list(row) for row in zip(*(cells for _, _, cells in columns), strict=True)],
        importance=[importance for _, importance, _ in columns],
    )


def _key_columns(values: Sequence[dict[str, str]], labels: list[str]) -> list[Column]:
    """A column for each key that differs; the labels where these do not tell the rows apart."""
    keys = list(dict.fromkeys(key for one in values for key in one))
    if not keys or len({tuple(one.values()) for one in values}) < len(values):
        return [("run", 0, labels)]
    names = short_names(keys)
    return [(names[key], 0, [one[key] for one in values]) for key in keys]


def _context_columns(groups: Sequence[Group]) -> list[Column]:
    """Bits per byte at the longest context, as trained and by the best method."""
    found = [at_longest(group) for group in groups]
    lengths = {one.length for one in found if one}
    if not lengths:
        return []
    shared = len(lengths) == 1
    head = f"bpb at {min(lengths):,}" if shared else "bpb at longest"
    none = [_bits(one, one.none, "", shared) if one else EMPTY for one in found]
    best = [_bits(one, one.best, one.method or "", shared) if one else EMPTY for one in found]
    columns = [(head, 4, none), ("best method", 3, best)]
    return columns if set(best) != {EMPTY} else columns[:1]


def _bits(one: AtLongest, value: float | None, method: str, shared: bool) -> str:
    if value is None:
        return EMPTY
    at = "" if shared else f"at {one.length:,}"
    return " ".join(filter(None, [FORMS[BPB].format(value), at, method]))


def _speed_columns(groups: Sequence[Group]) -> list[Column]:
    return [
        ("tokens/s", 2, [_number(group.mean("tokens_per_second")) for group in groups]),
        ("seconds", 1, [_number(group.mean("seconds")) for group in groups]),
    ]


def _mean(comparison: Comparison, key: str, place: int) -> str:
    """A mean with the half of its interval; a star only where it is clear of every other."""
    means = comparison.means[key]
    star = "*" if means.clear and place == means.best else ""
    half = "" if means.ci95 is None else f" {half_of(means.ci95[place], FORMS[key])}"
    return f"{star}{FORMS[key].format(means.means[place])}{half}"


def _above(comparison: Comparison, place: int) -> str:
    means, key = comparison.compared, comparison.comparable.figure
    assert means is not None and key is not None
    if place == means.best:
        return ""
    form = FORMS[key]
    half = "" if means.above_ci95 is None else f" {half_of(means.above_ci95[place], form)}"
    return f"+{form.format(means.above[place])}{half}"


def half_of(interval: Interval, form: str) -> str:
    """`±` half of an interval."""
    low, high = interval
    return f"±{form.format((high - low) / 2)}"


def _plain(group: Group, key: str) -> str:
    mean = group.mean(key)
    return EMPTY if mean is None else FORMS[key].format(mean)


def _seeds(group: Group) -> str:
    """The seeds, or how many where they are many."""
    return ",".join(map(str, group.runs)) if len(group.runs) < 5 else f"{len(group.runs)} seeds"


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:,.0f}"
