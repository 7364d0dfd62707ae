"""Means, intervals and claims against other roads to them: mpmath, least squares, simulation."""

from collections.abc import Callable

import numpy as np
import pytest

from evaluation.statistics import t_quantile
from reports.statistics import compare_means


def by_least_squares(groups: list[dict[int, float]], *, seeds: bool) -> tuple[float, int]:
    """Variance of the error and its degrees of freedom: a linear model with these columns."""
    rows = [(g, seed, y) for g, group in enumerate(groups) for seed, y in group.items()]
    columns = [[float(g == i) for g, _, _ in rows] for i in range(len(groups))]
    if seeds:
        columns += [[float(seed == s) for _, seed, _ in rows] for s in list(groups[0])[1:]]
    design, y = np.array(columns).T, np.array([y for _, _, y in rows])
    errors = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    df = len(y) - np.linalg.matrix_rank(design)
    return float(errors @ errors / df), int(df)


def half(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2


def test_other_seeds_in_each_group_give_the_pooled_interval() -> None:
    groups = [{0: 3.0, 1: 3.2, 2: 3.1}, {3: 3.3, 4: 3.6}, {5: 2.9}]
    found = compare_means(groups)
    variance, df = by_least_squares(groups, seeds=False)
    assert not found.paired and found.df == df == 3 and found.best == 2
    assert found.ci95 is not None and found.above_ci95 is not None
    assert half(found.ci95[0]) == pytest.approx(t_quantile(0.975, 3) * (variance / 3) ** 0.5)
    assert not found.clear  # so that it is one of 3 comparisons
    wanted = t_quantile(1 - 0.025 / 3, 3) * (variance * (1 / 2 + 1)) ** 0.5
    assert half(found.above_ci95[1]) == pytest.approx(wanted)
    assert found.above_ci95[2] == (0.0, 0.0)


def test_the_same_seeds_in_each_group_are_paired() -> None:
    """A seed that lifts all groups alike is in no difference, but in the interval of each mean."""
    lift = {0: 0.0, 1: 0.5, 2: -0.4}
    noise = [[0.01, 0.0, -0.01], [0.0, 0.02, 0.0], [-0.01, 0.0, 0.01]]
    groups = [{s: 3 + 0.2 * g + lift[s] + noise[g][s] for s in lift} for g in range(len(noise))]
    found = compare_means(groups)
    error, df = by_least_squares(groups, seeds=True)
    assert found.paired and found.df == df == 4 and found.best == 0 and found.clear
    assert found.ci95 is not None and found.above_ci95 is not None
    wanted = t_quantile(1 - 0.025 / 2, 4) * (error * 2 / 3) ** 0.5
    assert half(found.above_ci95[1]) == pytest.approx(wanted)
    variance, _ = by_least_squares(groups, seeds=False)
    # Runs of one seed are nearly one run: two degrees of freedom, not six.
    assert half(found.ci95[0]) == pytest.approx(t_quantile(0.975, 2) * (variance / 3) ** 0.5)
    apart = compare_means([{10 * g + s: y for s, y in one.items()} for g, one in enumerate(groups)])
    assert not apart.paired and not apart.clear  # the same figures, had the seeds been others


def test_one_seed_makes_no_claim() -> None:
    found = compare_means([{0: 3.0}, {0: 9.0}])
    assert found.ci95 is None and found.above_ci95 is None and not found.clear
    assert found.best == 0 and found.above == [0.0, 6.0]


def test_one_group_has_an_interval_and_no_best() -> None:
    found = compare_means([{0: 3.0, 1: 3.2}])
    assert not found.clear and not found.paired and found.ci95 is not None
    assert half(found.ci95[0]) == pytest.approx(t_quantile(0.975, 1) * 0.1)


def test_groups_that_are_alike_have_no_clear_best() -> None:
    """Negative control; and the same figures with one group moved away have one."""
    draw = np.random.default_rng(3)
    groups = [dict(enumerate(draw.normal(3, 0.05, 4))) for _ in range(2)]
    assert not compare_means(groups).clear
    assert compare_means([groups[0], {s: y + 1 for s, y in groups[1].items()}]).clear


def rate(trials: int, claim: Callable[[np.random.Generator], bool]) -> float:
    draw = np.random.default_rng(0)
    return sum(claim(draw) for _ in range(trials)) / trials


def test_many_that_are_alike_are_seldom_told_apart() -> None:
    """The best of ten is chosen by its figure, and so its distance to the worst is a large one."""

    def claim(draw: np.random.Generator) -> bool:
        found = compare_means([dict(enumerate(draw.normal(size=3))) for _ in range(10)])
        assert found.above_ci95 is not None
        return any(low > 0 for low, _ in found.above_ci95)

    assert rate(400, claim) < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [2, 3, 6])
@pytest.mark.parametrize(("seeds", "of_seed"), [(2, 0.0), (3, 1.0), (5, 1.0)])
def test_a_best_among_equals_is_claimed_in_at_most_one_case_in_twenty(
    n_groups: int, seeds: int, of_seed: float
) -> None:
    def claim(draw: np.random.Generator) -> bool:
        lift = of_seed * draw.normal(size=seeds)
        return compare_means(
            [dict(enumerate(lift + draw.normal(size=seeds))) for _ in range(n_groups)]
        ).clear

    found = rate(4000, claim)
    assert found < 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5
    assert n_groups > 2 or found > 0.03  # it is not for want of any claim


@pytest.mark.slow
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("of_seed", [0.0, 1.0, 5.0])
def test_intervals_hold_the_truth_in_nineteen_cases_of_twenty(paired: bool, of_seed: float) -> None:
    truth, seeds = [0.0, 0.5, 4.0], 4

    def inside(draw: np.random.Generator) -> bool:
        lift = of_seed * draw.normal(size=seeds) if paired else 0.0
        groups = [m + lift + draw.normal(size=seeds) for m in truth]
        first = [0 if paired else seeds * g for g in range(len(truth))]
        named = [dict(enumerate(y, start)) for y, start in zip(groups, first, strict=True)]
        found = compare_means(named)
        assert found.ci95 is not None and found.paired == paired
        low, high = found.ci95[2]
        return low <= truth[2] <= high

    assert rate(3000, inside) > 0.95 - 3 * (0.05 * 0.95 / 3000) ** 0.5
