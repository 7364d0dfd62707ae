"""Intervals against what theory says of them."""

import math

import mpmath
import numpy as np
import pytest

from evaluation.statistics import (
    bits_per_byte,
    bootstrap_ci95,
    exponential,
    mean_ci95,
    paired_ci95,
    t_quantile,
    wilson_ci95,
)


@pytest.mark.parametrize(
    ("correct", "trials", "low", "high"),
    [(500, 500, 0.992376, 1.0), (495, 500, 0.976807, 0.995721), (0, 10, 0.0, 0.277533)],
)
def test_wilson_interval_of_known_counts(correct, trials, low, high):
    ends = wilson_ci95(correct, trials)
    assert ends == pytest.approx([low, high], abs=1e-6)
    assert 0 <= ends[0] <= correct / trials <= ends[1] <= 1


@pytest.mark.parametrize(("correct", "trials"), [(1, 2), (7, 110), (55, 110), (109, 110)])
def test_wilson_ends_are_the_shares_at_which_the_score_is_at_its_quantile(correct, trials):
    share = correct / trials
    for end in wilson_ci95(correct, trials):
        score = (share - end) / math.sqrt(end * (1 - end) / trials)
        assert abs(score) == pytest.approx(1.959963984540054)


def test_a_paired_interval_is_that_of_the_differences_and_narrower_than_either():
    rng = np.random.default_rng(0)
    hard = rng.gamma(20.0, size=200)  # some passages are harder than others, for both
    left, right = hard + rng.normal(0, 0.1, 200), hard + 0.5 + rng.normal(0, 0.1, 200)
    mean, (low, high) = mean_ci95(right - left)
    assert mean == pytest.approx(right.mean() - left.mean()) and low < 0.5 < high
    se = (right - left).std() / math.sqrt(200)
    assert high - low == pytest.approx(2 * 1.96 * se, rel=0.1)
    _, alone = mean_ci95(right)
    assert high - low < (alone[1] - alone[0]) / 10


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 30, 101])
@pytest.mark.parametrize("p", [0.6, 0.975, 0.9975, 0.99999])
def test_the_quantile_of_student_is_that_of_the_incomplete_beta_function(df: int, p: float) -> None:
    t = mpmath.mpf(t_quantile(p, df))
    beyond = mpmath.betainc(mpmath.mpf(df) / 2, 0.5, 0, df / (df + t**2), regularized=True) / 2
    assert abs(beyond - (1 - p)) < 1e-10


def test_one_passage_has_a_mean_and_no_interval():
    assert mean_ci95(np.array([2.0])) == (2.0, None)
    assert paired_ci95(np.array([2.0]), np.array([100])) is None
    assert exponential(0.0, None) == (1.0, None)
    assert exponential(0.5, [0.0, 1.0]) == (math.exp(0.5), [1.0, math.e])


def test_bits_per_byte_of_a_fair_coin_is_one():
    assert bits_per_byte(np.full(6, 5 * math.log(2)), np.full(6, 5)) == pytest.approx(1.0)


def test_interval_contains_the_mean_shrinks_with_passages_and_is_deterministic():
    rng = np.random.default_rng(1)
    widths = []
    for n in (8, 32, 128, 512):
        nats, n_bytes = rng.gamma(50.0, size=n), rng.integers(90, 110, size=n)
        low, high = bootstrap_ci95(nats, n_bytes)
        assert low < bits_per_byte(nats, n_bytes) < high
        assert [low, high] == bootstrap_ci95(nats, n_bytes)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    # The normal approximation of the largest, whose sums are nearly normal.
    se = nats.std() / math.sqrt(n) / math.log(2) / n_bytes.mean()
    assert widths[-1] == pytest.approx(2 * 1.96 * se, rel=0.15)
