"""Bits per byte at longer contexts: what a group's runs measured, by method and length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.comparison import Comparison
from reports.groups import Group, mean_of
from reports.run_files import RunFiles

NONE = "none"  # the model exactly as it was trained
# What must agree for figures to be of the same targets of the same text
PROTOCOL = ("passages", "target_tokens", "target_bytes")


@dataclass(frozen=True)
class AtLongest:
    """Bits per byte at a group's longest context, as trained and by the best of its methods.

    The best is "none" where no other is lower; without another there is no best one.
    """

    length: int
    none: float | None
    best: float | None
    method: str | None


def curves(group: Group) -> dict[str, dict[int, float]]:
    """method -> context -> bits per byte, the mean of the group's runs that all have it."""
    found = [bits for run in group.runs.values() if (bits := bits_of(run))]
    if not found or len(found) < len(group.runs):
        return {}
    means: dict[str, dict[int, float]] = {}
    for method in found[0]:
        if all(method in one for one in found):
            lengths = [n for n in found[0][method] if all(n in one[method] for one in found)]
            at = {n: mean_of([one[method][n] for one in found]) for n in lengths}
            means[method] = {n: mean for n, mean in at.items() if mean is not None}
    return {method: at for method, at in means.items() if at}


def bits_of(run: RunFiles) -> dict[str, dict[int, float]]:
    """The same of one run; empty where nothing was measured."""
    result: dict[str, Any] = run.extrapolation or {}
    lengths = result.get("lengths") or []
    found = {}
    for method, figures in (result.get("methods") or {}).items():
        pairs = zip(lengths, figures.get("bpb") or [], strict=False)
        found[method] = {int(n): float(bits) for n, bits in pairs if bits is not None}
    return {method: at for method, at in found.items() if at}


def at_longest(group: Group) -> AtLongest | None:
    """At the longest context that any of the group's methods has."""
    found = curves(group)
    if not found:
        return None
    length = max(max(at) for at in found.values())
    there = {method: at[length] for method, at in found.items() if length in at}
    best = min(there, key=there.__getitem__) if set(there) != {NONE} else None
    return AtLongest(length, there.get(NONE), there[best] if best else None, best)


def train_lengths(groups: Sequence[Group]) -> set[int]:
    """The contexts that runs were trained at, as far as they have measured longer ones."""
    results = [run.extrapolation for group in groups for run in group.runs.values()]
    return {result["train_length"] for result in results if result}


def same_targets(comparison: Comparison) -> bool:
    """Whether all that was measured was measured on the same passages."""
    runs = [run for group in comparison.groups for run in group.runs.values()]
    results = [run.extrapolation for run in runs if run.extrapolation]
    asked = [
        [result["lengths"], *((result.get("protocol") or {}).get(key) for key in PROTOCOL)]
        for result in results
    ]
    return comparison.comparable.same_text and all(one == asked[0] for one in asked)
