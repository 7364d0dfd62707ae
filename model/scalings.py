"""The ways to stretch rotary frequencies past the length a model was trained at.

Each is a small class with one method, `(theta, rotary_dim, seq_len) -> (inv_freq,
attention_factor)`: a pure function of the method and the length, without a state that one call
could leave to the next. Their fields are their settings, in range when they get here
(`model.frequencies` sees to it). `attention_factor` multiplies cos and sin, so scores are
multiplied by its square.

Shapes: d = rotary_dim; inv_freq is (d/2,), float64, on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.rules import BOOLEAN, above, at_least, list_of, number

if TYPE_CHECKING:
    from torch import Tensor

    Frequencies = tuple[Tensor, float]

SETTINGS = {  # the rule of every field below
    "factor": number(1, 1e12, 4.0),
    "train_length": at_least(1, 256),
    "beta_fast": above(0, 32.0),
    "beta_slow": above(0, 1.0),
    "attention_factor": above(0, 1.0),
    "mscale": above(0, 1.0),
    "mscale_all_dim": above(0, 1.0),
    "truncate": BOOLEAN,
    "short_factor": list_of(above(0, 1.0)),
    "long_factor": list_of(above(0, 1.5)),
    "low_freq_factor": above(0, 1.0),
    "high_freq_factor": above(0, 4.0),
    "partial_rotary_factor": number(0, 1, 0.25),
}


def inverse_frequencies(rotary_dim: int, theta: float) -> Tensor:
    """`kernels.inverse_frequencies`; torch is imported here, so that the settings need none."""
    import kernels

    return kernels.inverse_frequencies(rotary_dim, float(theta))


@dataclass(frozen=True)
class NoScaling:
    """theta^(-2i/d), as trained. Takes no factor."""

    train_length: int | None = None

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        return inverse_frequencies(rotary_dim, theta), 1.0


@dataclass(frozen=True)
class Linear:
    """Position interpolation: every frequency divided by the factor (arXiv:2306.15595)."""

    train_length: int | None = None
    factor: float | None = None

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        factor = _stretch(self.factor, seq_len, self.train_length)
        return inverse_frequencies(rotary_dim, theta) / factor, 1.0


@dataclass(frozen=True)
class Ntk:
    """NTK-aware: a larger theta, so that the slowest pair alone is divided by the whole factor."""

    train_length: int | None = None
    factor: float | None = None

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        factor = _stretch(self.factor, seq_len, self.train_length)
        return inverse_frequencies(rotary_dim, _ntk_theta(theta, rotary_dim, factor)), 1.0


@dataclass(frozen=True)
class Dynamic:
    """NTK-aware with the theta that the length at hand asks for; plain up to the training length.

    `factor` is Hugging Face's: 1 is NTK with exactly seq_len / train_length.
    """

    train_length: int
    factor: float = 1.0

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        ratio = max(seq_len or 0, self.train_length) / self.train_length
        factor = self.factor * ratio - (self.factor - 1)
        return inverse_frequencies(rotary_dim, _ntk_theta(theta, rotary_dim, factor)), 1.0


@dataclass(frozen=True)
class Yarn:
    """YaRN (arXiv:2309.00071): fast pairs kept, slow ones interpolated, a ramp between, and a
    temperature.

    A pair that turns `beta_fast` times or more within train_length is kept, one that turns
    `beta_slow` times or less is divided by the factor. `truncate` rounds the ramp's ends outwards
    to whole pairs. `attention_factor` defaults to 0.1 ln(factor) + 1, or, with `mscale` and
    `mscale_all_dim`, to the quotient of the two such terms (DeepSeek).
    """

    train_length: int
    factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        factor = _stretch(self.factor, seq_len, self.train_length)
        low, high = self._ramp(theta, rotary_dim)
        inv_freq = inverse_frequencies(rotary_dim, theta)
        pair = inv_freq.new_tensor(range(rotary_dim // 2))
        interpolated = ((pair - low) / (high - low)).clamp(0, 1)
        inv_freq = inv_freq / factor * interpolated + inv_freq * (1 - interpolated)
        return inv_freq, self._temperature(factor)

    def _ramp(self, theta: float, rotary_dim: int) -> tuple[float, float]:
        """The pairs at which interpolation begins and is complete (may be fractions)."""
        if theta <= 1:
            raise ValueError(f"theta={theta}: must be above 1 for this ramp; try theta=10000.0")

        def pair_turning(turns: float) -> float:
            return (
                rotary_dim * math.log(self.train_length / (turns * math.tau)) / math.log(theta) / 2
            )

        low, high = pair_turning(self.beta_fast), pair_turning(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        # Clamped to rotary_dim - 1 rather than to the last pair, as every published YaRN is.
        low, high = max(low, 0), min(high, rotary_dim - 1)
        # Where all pairs are fast, or all slow, the ends cross: a step in place of a ramp.
        return low, high if high > low else low + 0.001

    def _temperature(self, factor: float) -> float:
        if self.attention_factor is not None:
            return float(self.attention_factor)
        if self.mscale is None:
            return 0.1 * math.log(factor) + 1
        scale = 0.1 * math.log(factor)
        assert self.mscale_all_dim is not None  # `model.frequencies` asks for both
        return (scale * self.mscale + 1) / (scale * self.mscale_all_dim + 1)


@dataclass(frozen=True)
class NtkByParts:
    """NTK-by-parts (arXiv:2309.00071, section 3.2): YaRN's frequencies without its temperature.

    The paper draws the ramp over the turns within train_length; here it runs over the pairs
    between `beta_fast` and `beta_slow`, as in every published YaRN, so that the temperature is
    all that sets the two methods apart.
    """

    train_length: int
    factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        settings = (self.train_length, self.factor, self.beta_fast, self.beta_slow)
        return Yarn(*settings, attention_factor=1.0)(theta, rotary_dim, seq_len)


@dataclass(frozen=True)
class LongRope:
    """LongRoPE (arXiv:2402.13753): a searched divisor for each pair, one list up to the training
    length and one past it.

    `factor` (seq_len / train_length where None) serves the attention factor alone, which
    defaults to sqrt(1 + ln(factor) / ln(train_length)).
    """

    train_length: int
    short_factor: list[float]
    long_factor: list[float]
    factor: float | None = None
    attention_factor: float | None = None

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        seq_len = seq_len or self.train_length
        divisors = self.long_factor if seq_len > self.train_length else self.short_factor
        inv_freq = inverse_frequencies(rotary_dim, theta)
        return inv_freq / inv_freq.new_tensor(divisors), self.temperature(seq_len)

    def temperature(self, seq_len: int) -> float:
        """The attention factor for so many tokens."""
        if self.attention_factor is not None:
            return float(self.attention_factor)
        factor = _stretch(self.factor, seq_len, self.train_length)
        return math.sqrt(1 + math.log(factor) / math.log(self.train_length))


@dataclass(frozen=True)
class Llama3:
    """Llama 3.1's: by wavelength, kept below train_length / high_freq_factor, divided by the
    factor above train_length / low_freq_factor, and blended between."""

    train_length: int
    factor: float | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        factor = _stretch(self.factor, seq_len, self.train_length)
        inv_freq = inverse_frequencies(rotary_dim, theta)
        turns = self.train_length * inv_freq / math.tau
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = kept.clamp(0, 1)
        return inv_freq / factor * (1 - kept) + inv_freq * kept, 1.0


@dataclass(frozen=True)
class Proportional:
    """p-RoPE (arXiv:2410.06205): only the fastest share of the pairs turns, the others stand."""

    train_length: int | None = None
    factor: float = 1.0
    partial_rotary_factor: float = 1.0

    def __call__(self, theta: float, rotary_dim: int, seq_len: int | None) -> Frequencies:
        inv_freq = inverse_frequencies(rotary_dim, theta) / float(self.factor)
        inv_freq[int(self.partial_rotary_factor * rotary_dim // 2) :] = 0.0
        return inv_freq, 1.0


SCALINGS: dict[str, Any] = {  # by name: the classes above
    "none": NoScaling,
    "linear": Linear,
    "ntk": Ntk,
    "dynamic": Dynamic,
    "ntk-by-parts": NtkByParts,
    "yarn": Yarn,
    "longrope": LongRope,
    "llama3": Llama3,
    "proportional": Proportional,
}
# Those whose frequencies follow the length that is read, where no seq_len is given
BY_LENGTH = ("dynamic", "longrope")
# Those whose factor=None is seq_len / train_length
STRETCHED = ("linear", "ntk", "ntk-by-parts", "yarn", "llama3")


def _stretch(factor: float | None, seq_len: int | None, train_length: int | None) -> float:
    """How far past the training length to reach, at least 1."""
    if factor is not None:
        return float(factor)
    if seq_len is None or train_length is None:  # `model.frequencies` asks those in STRETCHED
        raise ValueError(
            "factor=None: needs a number, or seq_len and train_length; try factor=4.0 "
            "(STRETCHED in model/scalings.py has the names of the scalings that do)"
        )
    return max(seq_len / train_length, 1.0)


def _ntk_theta(theta: float, rotary_dim: int, factor: float) -> float:
    """The theta whose slowest frequency is `factor` times below theta's own."""
    if rotary_dim == 2:  # one pair, at 1 radian per position whatever theta is
        return theta
    return theta * factor ** (rotary_dim / (rotary_dim - 2))
