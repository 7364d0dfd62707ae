"""From losses and counts to figures with 95 % intervals.

Shapes: P passages, R resamples.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

INTERVAL_RESAMPLES = 2_000
PAIRED_INTERVAL = "95 % expanded percentile bootstrap (Hesterberg 2015)"
_Z = 1.959963984540054  # the normal distribution's 97.5 % point


def bits_per_byte(nats: np.ndarray, n_bytes: np.ndarray) -> float:
    """Total surprise of the passages in bits, over the bytes of text that their targets stand for.

    Args:
        nats: (P,) summed over a passage's targets.
        n_bytes: (P,) UTF-8 bytes of the same targets.
    """
    return float(nats.sum() / np.log(2) / n_bytes.sum())


def bootstrap_ci95(nats: np.ndarray, n_bytes: np.ndarray) -> list[float] | None:
    """95 % percentile bootstrap interval of `bits_per_byte`, over passages (Efron 1979).

    Every call draws the same resamples, so intervals of two methods differ by the methods alone.

    Returns:
        [low, high], or None for a single passage, which says nothing about others.
    """
    n = len(nats)
    if n < 2:
        return None
    return _percentiles((_draws(n) @ nats) / np.log(2) / (_draws(n) @ n_bytes))


def paired_ci95(differences: np.ndarray, n_bytes: np.ndarray) -> list[float] | None:
    """95 % interval of the difference of two `bits_per_byte` on the same passages.

    By bootstrap over passages. Its percentiles, which leave out too much where there are few of
    them, are moved outwards as far as Student's t asks (Hesterberg 2015, expanded percentiles).

    Args:
        differences: (P,) in nats.
    """
    n = len(differences)
    if n < 2:
        return None
    outside = NormalDist().cdf(-math.sqrt(n / (n - 1)) * t_quantile(0.975, n - 1))
    resampled = (_draws(n) @ differences) / np.log(2) / (_draws(n) @ n_bytes)
    return _percentiles(resampled, 100 * outside)


def t_quantile(p: float, df: int) -> float:
    """Where Student's t distribution with `df` degrees of freedom reaches `p`, in (0.5, 1)."""
    assert 0.5 < p < 1 and df >= 1, (p, df)
    low, high = 0.0, 1.0
    while _t_cdf(high, df) < p:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def _t_cdf(t: float, df: int) -> float:
    """The distribution function for t >= 0 (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(df))
    square = math.cos(angle) ** 2
    odd = df % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, df, 2):
        total += term
        term *= square * k / (k + 1)
    inner = math.sin(angle) * total
    return 0.5 + (angle + inner) / math.pi if odd else 0.5 + inner / 2


def mean_ci95(values: np.ndarray) -> tuple[float, list[float] | None]:
    """The mean of `values` (P,) and its 95 % percentile bootstrap interval over passages.

    Given the differences of two conditions on the same passages, it is the paired interval.
    """
    n = len(values)
    return float(values.mean()), None if n < 2 else _percentiles(_draws(n) @ values / n)


def exponential(figure: float, ci95: list[float] | None) -> tuple[float, list[float] | None]:
    """exp of a figure and of its interval: percentiles go along with a growing function."""
    return math.exp(figure), ci95 and [math.exp(end) for end in ci95]


def wilson_ci95(correct: int, trials: int) -> list[float]:
    """95 % score interval of a share of `trials` that succeed (Wilson 1927).

    Unlike the normal approximation it does not shrink to a point at 0 % and at 100 %.
    """
    assert 0 <= correct <= trials and trials > 0, (correct, trials)
    share, z2 = correct / trials, _Z * _Z
    middle = share + z2 / (2 * trials)
    half = _Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    low, high = ((middle + side) / (1 + z2 / trials) for side in (-half, half))
    # At the ends one of them is the share itself, but for rounding.
    return [low if correct else 0.0, high if correct < trials else 1.0]


def difference_ci95(a: float, a_ci95: list[float], b: float, b_ci95: list[float]) -> list[float]:
    """95 % interval of a - b from the 95 % intervals of both, which are independent.

    Of Wilson's intervals it is Newcombe's of two shares (1998, method 10); of any others, the same
    recovered variances (Zou and Donner 2008).
    """
    (a_low, a_high), (b_low, b_high) = a_ci95, b_ci95
    below, above = math.hypot(a - a_low, b_high - b), math.hypot(a_high - a, b - b_low)
    return [a - b - below, a - b + above]


@lru_cache(maxsize=4)
def _draws(n: int) -> np.ndarray:
    """How often each passage is drawn, (R, P): sums of a resample are then a matrix product."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=INTERVAL_RESAMPLES)


def _percentiles(resampled: np.ndarray, outside: float = 2.5) -> list[float]:
    """The ends that leave `outside` percent on either side."""
    low, high = np.percentile(resampled, [outside, 100 - outside])
    return [float(low), float(high)]
