"""Intervals of what was measured."""

import math


def wilson95(successes: int, trials: int) -> list[float]:
    """95 % interval [low, high] of a share, `successes` of `trials` (E. B. Wilson, 1927).

    Unlike the normal approximation it is right at the ends: 500 of 500 gives 99.2 % to 100 %.
    """
    assert 0 <= successes <= trials and trials > 0, (successes, trials)
    z = 1.959963984540054  # of the normal distribution, 97.5 %
    share, spread = successes / trials, z * z / trials
    centre = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    # At the ends one of them is the share itself, but for rounding.
    return [low if successes else 0.0, high if successes < trials else 1.0]
