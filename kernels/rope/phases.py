"""Frequencies as exact fixed-point phases: the fraction of a turn that one position adds.

An angle position · inv_freq matters only modulo one turn, and a float32 angle has lost its
fraction of a turn long before a long context ends. So a frequency becomes a 64-bit fraction of a
turn, phase = round(inv_freq / 2π · 2^64), and position · phase in int64 wraps around modulo 2^64,
that is modulo one whole turn, without any rounding. The top bits of the product are the angle.

Shapes: P is the number of rotated pairs, rotary_dim / 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ..operators import NAMESPACE, OPS

DEFAULT_THETA = 10000.0
MAX_ROTARY_DIM = 512

# Numbers of many words here are made of 28-bit limbs: the product of two, and a few such
# products added up, stay below 2^63, so that int64 tensors hold them without overflow.
LIMB_BITS = 28
LIMB_MASK = (1 << LIMB_BITS) - 1
# A product is kept from weight 2^63 down to 2^-132. What is cut off below is under 2^-79, which
# no float64 can turn into a wrong rounding: none comes that close to half a unit.
PRODUCT_LIMBS = 7
# Zero limbs in front of 1/2π's digits, for the frequencies whose first digits lie that far down.
LEADING_LIMBS = 10
DIGIT_LIMBS = 43  # as far as the window of the greatest float64 exponent reaches


def inverse_frequencies(rotary_dim: int, theta: float = DEFAULT_THETA) -> Tensor:
    """theta^(-2i / rotary_dim) for i = 0 ... rotary_dim/2 - 1 (RoFormer, arXiv 2104.09864).

    Args:
        rotary_dim: how many of a head's components are rotated: even, 2 to 512.
        theta: the base, positive; the slowest pair turns once in about 2π·theta positions.

    Returns:
        float64 tensor (P,) on the CPU, in radians per position.

    Raises:
        ValueError: rotary_dim or theta out of range.
    """
    if not 2 <= rotary_dim <= MAX_ROTARY_DIM or rotary_dim % 2:
        raise ValueError(f"rotary_dim={rotary_dim}: must be even and from 2 to {MAX_ROTARY_DIM}")
    if not 0 < theta < float("inf"):
        raise ValueError(f"theta={theta}: must be a positive finite number")
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float64, device="cpu") / rotary_dim
    return theta**-exponents


def rope_phases(inv_freq: Tensor) -> Tensor:
    """round(inv_freq / 2π · 2^64) modulo 2^64, exactly, on inv_freq's device.

    The float64 number is taken as exact: mantissa · 2^exponent. Its product with the digits of
    1/2π is formed in integers, of which only a window matters: digits above weight 2^63 are
    whole turns, those below 2^-132 cannot change the rounding (Payne and Hanek, SIGNUM 1983).

    Args:
        inv_freq: float64 tensor (P,), finite, in radians per position.

    Returns:
        int64 tensor (P,): the unsigned 64-bit fraction of a turn, read as a signed number.

    Raises:
        ValueError: inv_freq is not a float64 tensor.
    """
    if not isinstance(inv_freq, Tensor) or inv_freq.dtype != torch.float64:
        got = inv_freq.dtype if isinstance(inv_freq, Tensor) else type(inv_freq).__name__
        raise ValueError(f"inv_freq is {got}: must be a float64 tensor")
    if torch.compiler.is_compiling():
        return OPS.phases(inv_freq.detach(), 0, 0.0, inv_freq.device)
    return _exact_phases(inv_freq.detach())


def phases_from_theta(rotary_dim: int, theta: float, device: torch.device) -> Tensor:
    """Phases of the unscaled frequencies, kept from one call to the next. int64 (P,)."""
    if torch.compiler.is_compiling():
        return OPS.phases(None, rotary_dim, theta, device)
    return _kept_phases(rotary_dim, theta, device)


@functools.lru_cache(maxsize=256)
def _kept_phases(rotary_dim: int, theta: float, device: torch.device) -> Tensor:
    return _in_own_thread(lambda: _exact_phases(inverse_frequencies(rotary_dim, theta)).to(device))


@torch.library.custom_op(f"{NAMESPACE}::phases", mutates_args=())
def _phases_op(
    inv_freq: Tensor | None, rotary_dim: int, theta: float, device: torch.device
) -> Tensor:
    """The two functions above as one opaque operator, for graphs that torch.compile captures."""
    if inv_freq is not None:
        return _exact_phases(inv_freq)
    return _kept_phases(rotary_dim, theta, device).clone()  # the graph may overwrite what it gets


@_phases_op.register_fake
def _(inv_freq: Tensor | None, rotary_dim: int, theta: float, device: torch.device) -> Tensor:
    if inv_freq is not None:
        return torch.empty_like(inv_freq, dtype=torch.int64)
    return torch.empty(rotary_dim // 2, dtype=torch.int64, device=device)


def _exact_phases(inv_freq: Tensor) -> Tensor:
    bits = inv_freq.contiguous().view(torch.int64)
    biased = (bits >> 52) & 0x7FF
    implicit_one = (biased > 0).to(torch.int64) << 52
    mantissa = (bits & ((1 << 52) - 1)) | implicit_one
    exponent = biased.clamp(min=1) - 1075  # |inv_freq| = mantissa · 2^exponent

    digits = _window_of_digits(exponent)  # (P, PRODUCT_LIMBS), weights 2^63 ... 2^-132
    low, high = mantissa & LIMB_MASK, mantissa >> LIMB_BITS
    carry = torch.zeros_like(mantissa)
    product = []
    for limb in range(PRODUCT_LIMBS):  # schoolbook multiplication, least significant limb first
        column = carry + low * digits[:, limb]
        if limb > 0:
            column = column + high * digits[:, limb - 1]
        if limb == 4:
            column = column + (1 << 19)  # half of weight 2^0, which is this limb's bit 20
        product.append(column & LIMB_MASK)
        carry = column >> LIMB_BITS
    phase = (product[4] >> 20) | (product[5] << 8) | (product[6] << 36)
    return torch.where(bits < 0, -phase, phase)


def _window_of_digits(exponent: Tensor) -> Tensor:
    """Limbs of 2^(exponent + 64) / 2π from weight 2^63 downwards, least significant first."""
    first_bit = (exponent + LEADING_LIMBS * LIMB_BITS).clamp(min=0)  # of weight 2^63
    limb, shift = first_bit // LIMB_BITS, (first_bit % LIMB_BITS)[:, None]
    table = _digits_table(exponent.device)
    limbs = table[limb[:, None] + torch.arange(PRODUCT_LIMBS + 1, device=exponent.device)]
    window = (limbs[:, :-1] << shift) | (limbs[:, 1:] >> (LIMB_BITS - shift))
    return (window & LIMB_MASK).flip(-1)


@functools.lru_cache(maxsize=64)
def _digits_table(device: torch.device) -> Tensor:
    """1/2π after the point, in limbs, most significant first, LEADING_LIMBS zeros in front."""
    bits = DIGIT_LIMBS * LIMB_BITS
    guard = 64
    inverse_two_pi = (1 << (2 * (bits + guard))) // (2 * _pi(bits + guard)) >> guard
    limbs = [inverse_two_pi >> (bits - LIMB_BITS * (i + 1)) & LIMB_MASK for i in range(DIGIT_LIMBS)]
    limbs = [0] * LEADING_LIMBS + limbs
    return _in_own_thread(lambda: torch.tensor(limbs, dtype=torch.int64, device=device))


def _in_own_thread(make: Callable[[], Tensor]) -> Tensor:
    """A tensor to keep: no mode of the caller's (inference, vmap, fake tensors) gets into it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def _pi(bits: int) -> int:
    """π · 2^bits, a few units short: Machin's π/4 = 4 arctan 1/5 - arctan 1/239."""

    def arctan_of_inverse(n: int) -> int:
        power = total = (1 << bits) // n
        divisor = 1
        while power:
            power //= -n * n
            divisor += 2
            total += power // divisor
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
