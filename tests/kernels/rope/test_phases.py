"""Phases are the exact rounding of every frequency, and frequencies are the formula's."""

from __future__ import annotations

import math
import random

import mpmath
import pytest
import torch

from kernels import inverse_frequencies, rope_phases
from oracle import DEVICES


def exact_phase(inv_freq: float) -> int:
    with mpmath.workprec(2400):
        turns = mpmath.mpf(inv_freq) / (2 * mpmath.pi)
        phase = int(mpmath.nint(turns * mpmath.mpf(2) ** 64)) % 2**64
    return phase - 2**64 if phase >= 2**63 else phase


def awkward_frequencies() -> list[float]:
    draw = random.Random(11)
    spread = [draw.uniform(-1, 1) * 2.0 ** draw.randint(-1074, 1023) for _ in range(1500)]
    usual = [10000.0 ** -draw.random() for _ in range(500)]
    edges = [0.0, -0.0, 1.0, -1.0, 5e-324, 2.0**-1022, 1.7e308, math.pi, 2 * math.pi]
    tiny = [2.0**e for e in range(-75, -55)]  # around half of one phase unit
    return spread + usual + edges + tiny


@pytest.mark.parametrize("device", DEVICES)
def test_phases_are_rounded_exactly(device):
    frequencies = awkward_frequencies()
    tensor = torch.tensor(frequencies, dtype=torch.float64, device=device)
    phases = rope_phases(tensor)
    assert phases.dtype == torch.int64 and phases.device == tensor.device
    assert phases.tolist() == [exact_phase(f) for f in frequencies]
    assert rope_phases(tensor[::3]).tolist() == phases[::3].tolist()


@pytest.mark.parametrize("dim", [2, 6, 64, 512])
@pytest.mark.parametrize("theta", [100.0, 10000.0, 5e5])
def test_inverse_frequencies(dim, theta):
    inv_freq = inverse_frequencies(dim, theta)
    assert inv_freq.dtype == torch.float64 and inv_freq.shape == (dim // 2,)
    for i, value in enumerate(inv_freq.tolist()):
        exact = float(mpmath.mpf(theta) ** (-mpmath.mpf(2 * i) / dim))
        assert value == pytest.approx(exact, rel=5e-15)


@pytest.mark.parametrize("dim", [0, -2, 3, 514])
def test_inverse_frequencies_refuse_a_bad_rotary_dim(dim):
    with pytest.raises(ValueError, match=f"rotary_dim={dim}: must be even"):
        inverse_frequencies(dim)


@pytest.mark.parametrize("theta", [0.0, -1.0, float("nan"), float("inf")])
def test_inverse_frequencies_refuse_a_bad_theta(theta):
    with pytest.raises(ValueError, match=f"theta={theta}: must be a positive finite number"):
        inverse_frequencies(8, theta)


def test_phases_refuse_what_is_not_float64():
    with pytest.raises(ValueError, match=r"torch\.float32: must be a float64 tensor"):
        rope_phases(torch.ones(4))
    with pytest.raises(ValueError, match="list: must be a float64 tensor"):
        rope_phases([1.0])


def test_kept_phases_hold_nothing_of_the_mode_they_were_first_asked_for_in():
    from kernels import rope_triton

    q = torch.randn(1, 2, 1, 4)
    with torch.inference_mode():
        rope_triton(q, q, theta=31.0)
    torch.func.grad(lambda x: rope_triton(x, q, theta=37.0)[0].sum())(q)
    for theta in (31.0, 37.0):
        x = q.clone().requires_grad_()
        rope_triton(x, q, theta=theta)[0].sum().backward()
        assert x.grad is not None
