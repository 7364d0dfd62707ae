"""What tables and pictures say in words: how a mark is to be read, and that nothing was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluation.estimates import FEWEST_PASSAGES
from evaluation.measures.registry import MEASURES

Cells = Mapping[str, Mapping[Any, Mapping[str, Any] | None]]  # who -> context -> figures

BEYOND = "beyond the 95 % interval of the difference"
# What has not happened where no figure is above chance.
_NOTHING = {
    "passkey": "No key is found",
    "distractors": "No key among distractors is found",
    "copy": "Nothing is copied from a passage seen before",
    "repeat": "Nothing is copied from a text that repeats",
}


def nothing_found(measure: str, cells: Cells, who: str = "any method") -> str | None:
    """A sentence where a measure found nothing in any of its cells; None where it found something.

    `cells` is what an evaluation has of the measure, by method, or by whatever else `who` says.
    """
    if measure not in _NOTHING:
        return None
    there = [f for by_length in cells.values() for f in by_length.values() if f is not None]
    if not there or any(_is_above_chance(MEASURES[measure].figure, f) for f in there):
        return None
    lengths = {int(n) for by_length in cells.values() for n, f in by_length.items() if f}
    where = "at any length" if len(lengths) > 1 else f"at {min(lengths):,} tokens"
    several = sum(any(by_length.values()) for by_length in cells.values()) > 1
    whose = f" by {who}" if several else ""
    return f"{_NOTHING[measure]} {where}{whose}{_trials(there)}."


def _is_above_chance(figure: str, figures: Mapping[str, Any]) -> bool:
    """A passkey is not guessed; a gain must be above 0 beyond its interval."""
    if figure == "accuracy" or figures.get("ci95") is None:
        return figures[figure] > 0
    return figures["ci95"][0] > 0


def _trials(there: Sequence[Mapping[str, Any]]) -> str:
    """`: 110 trials each`; by depth they are a list."""
    counts = [f["trials"] for f in there if "trials" in f]
    totals = sorted({sum(count) if isinstance(count, list) else count for count in counts})
    if not totals:
        return ""
    several = f"{totals[0]} to {totals[-1]}" if len(totals) > 1 else f"{totals[0]}"
    return f": {several} trial{'' if totals == [1] else 's'} each"


def better_words(measure: str) -> str | None:
    """`lower is better`; None where neither is."""
    best = MEASURES[measure].best
    if best is None:
        return None
    return "lower is better" if best is min else "higher is better"


def sentence(line: str) -> str:
    """A note of a terminal's table, where it stands in a text whose marks are bold."""
    line = line.replace("* better", "In bold: better").removesuffix(".")
    return f"{line[:1].upper()}{line[1:]}."


def mark_words(
    measure: str,
    marked: Iterable[Sequence[str]] | None,
    compared: int,
    passages: int,
    one: str = "method",
    where: str = "at its length",
) -> str | None:
    """How the marks of a table are to be read, or why it has none.

    Args:
        marked: the names that are marked at each place; None in results of before there were any.
        compared: how many there are to compare, where there are most.
        passages: that the loss is known of.
        one, where: what is compared, and with which others.
    """
    if marked is None or compared < 2 or MEASURES[measure].best is None:
        return None
    if any(marked):
        return f"* better than every other {where}, {BEYOND}"
    if measure == "loss" and passages < FEWEST_PASSAGES:
        return (
            f"no {one} is marked as best: {passages} passages are too few to tell a difference "
            f"from chance; passages={FEWEST_PASSAGES} or more may"
        )
    return f"no {one} is better than every other {where}, {BEYOND}"
