"""Whether groups of runs differ by more than their seeds do: means, differences, 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.statistics import t_quantile

Interval = tuple[float, float]
MISTAKES = 0.05  # of all claims together, in the long run


@dataclass(frozen=True)
class Means:
    """Groups compared by one figure, of which less is better.

    Attributes:
        means: of each group.
        ci95: of each mean, over seeds; None where no group has two seeds.
        best: the place of the lowest mean.
        above: how far each mean lies above the best one.
        above_ci95: the intervals of these, which hold together (Bonferroni): of the best one with
            each other where it is clear, else of every two groups; None as above.
        paired: whether the seeds' common effect was taken out of the differences.
        df: degrees of freedom of the differences; 0 where nothing is known of the spread.
        clear: whether the best one is beyond its interval from every other.
    """

    means: list[float]
    ci95: list[Interval] | None
    best: int
    above: list[float]
    above_ci95: list[Interval] | None
    paired: bool
    df: int
    clear: bool


def compare_means(groups: Sequence[Mapping[int, float]]) -> Means:
    """Compare groups, each a figure by seed; runs of a group differ in their seed alone.

    The spread between seeds is one for all groups: the variance within them, pooled, with
    N - groups degrees of freedom.

    Where all groups ran with the same seeds, differences are paired by seed (two-way analysis
    without interaction, (groups - 1)(seeds - 1) degrees of freedom). A seed sets the order of the
    text, and the first weights where shapes agree, alike in every group, so that it lifts or
    lowers the val/loss of all of them together; that part is in no difference. The pairing is
    decided by which seeds there are and never by the figures: to take the narrower of two
    intervals would be a claim too many. It costs degrees of freedom, and stays right where seeds
    have nothing in common.

    The best one is chosen by its figure. Still, among groups that are alike one is called `clear`
    in at most 5 % of all cases: with G groups, each of them is the lowest by more than its
    intervals with a chance of at most 0.05 / (2 (G - 1)), which makes G / (2 (G - 1)) of 5 %.

    Where none is clear, that counts only the wins over all others. The lowest and the highest of
    many that are alike lie apart more often, so that the intervals are then those of every two.
    """
    assert groups and all(groups), groups
    means = [fmean(group.values()) for group in groups]
    best = min(range(len(groups)), key=means.__getitem__)
    above = [mean - means[best] for mean in means]
    pooled_df = sum(len(group) for group in groups) - len(groups)
    if pooled_df == 0:
        return Means(means, None, best, above, None, False, 0, False)
    variance, df_of_means, error, df = _spread(groups, means, pooled_df)
    half = t_quantile(1 - MISTAKES / 2, df_of_means)
    ci95 = [
        around(mean, half * math.sqrt(variance / len(group)))
        for mean, group in zip(means, groups, strict=True)
    ]
    errors = [math.sqrt(error * (1 / len(group) + 1 / len(groups[best]))) for group in groups]
    errors[best] = 0.0
    others = len(groups) - 1
    above_ci95 = _together(above, errors, df, max(1, others))
    clear = others > 0 and all(low > 0 for i, (low, _) in enumerate(above_ci95) if i != best)
    if others and not clear:
        above_ci95 = _together(above, errors, df, len(groups) * others // 2)
    return Means(means, ci95, best, above, above_ci95, _is_paired(groups), df, clear)


def _together(
    above: Sequence[float], errors: Sequence[float], df: int, comparisons: int
) -> list[Interval]:
    """Intervals of differences and their standard errors, for so many comparisons (Bonferroni)."""
    times = t_quantile(1 - MISTAKES / 2 / comparisons, df)
    return [around(a, times * one) for a, one in zip(above, errors, strict=True)]


def around(middle: float, half: float) -> Interval:
    """The interval of `half` to both sides."""
    return middle - half, middle + half


def _is_paired(groups: Sequence[Mapping[int, float]]) -> bool:
    return len(groups) > 1 and len(groups[0]) > 1 and len({frozenset(g) for g in groups}) == 1


def _spread(
    groups: Sequence[Mapping[int, float]], means: Sequence[float], pooled_df: int
) -> tuple[float, int, float, int]:
    """Variance of one run and its degrees of freedom; the same of what differences are made of.

    With pairs the runs of one seed are no longer independent, which leaves the variance of a run
    as it is, and takes degrees of freedom from it (Satterthwaite 1946).
    """
    within = sum(
        (figure - mean) ** 2
        for group, mean in zip(groups, means, strict=True)
        for figure in group.values()
    )
    variance = within / pooled_df
    if not _is_paired(groups):
        return variance, pooled_df, variance, pooled_df
    n_groups, seeds, middle = len(groups), list(groups[0]), fmean(means)
    of_seeds = [fmean(group[seed] for group in groups) for seed in seeds]
    by_seed = n_groups * sum((mean - middle) ** 2 for mean in of_seeds)
    df = (n_groups - 1) * (len(seeds) - 1)
    error = max(0.0, within - by_seed) / df
    square = by_seed / (len(seeds) - 1)
    wanted = square**2 + (n_groups - 1) * error**2
    exact = (n_groups * variance) ** 2 * (len(seeds) - 1) / wanted if wanted else pooled_df
    return variance, max(1, math.floor(exact + 1e-9)), error, df
