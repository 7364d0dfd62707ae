"""What a rotation by positions has to be like, whatever the numbers (hypothesis)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracle import DEVICES, ROPES, pair_columns

pytestmark = [
    pytest.mark.parametrize("rope", ROPES),
    pytest.mark.parametrize("device", DEVICES),
]

# The interpreter takes some 20 ms a call: few examples, each of many vectors.
examples = settings(max_examples=12, deadline=None, derandomize=True)
positions = st.integers(-(2**40), 2**40)
dims = st.sampled_from([2, 6, 16, 34])
thetas = st.floats(1.5, 1e8)
seeds = st.integers(0, 2**31)


def vectors(seed: int, dim: int, device: str, count: int = 4) -> Tensor:
    """float64 (1, 1, count, dim): one token of `count` heads."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 1, count, dim, generator=generator, dtype=torch.float64).to(device)


def turned(rope, x: Tensor, position: int, **options) -> Tensor:
    at = torch.tensor([position], device=x.device)
    return rope(x, x[:, :, :1], positions=at, **options)[0]


def slack(*positions: int) -> float:
    """Half a phase unit for each position, in radians, and float64's rounding."""
    return 2 * torch.pi * 2.0**-65 * sum(abs(m) for m in positions) + 1e-14


@examples
@given(m=positions, dim=dims, theta=thetas, seed=seeds, interleaved=st.booleans())
def test_norms_are_kept(rope, device, m, dim, theta, seed, interleaved):
    x = vectors(seed, dim, device)
    y = turned(rope, x, m, theta=theta, interleaved=interleaved)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1), rtol=1e-14, atol=0)


@examples
@given(m=positions, n=positions, shift=positions, dim=dims, theta=thetas, seed=seeds)
def test_scores_depend_on_the_distance_alone(rope, device, m, n, shift, dim, theta, seed):
    q, k = vectors(seed, dim, device).chunk(2, dim=2)
    scores = [
        (turned(rope, q, m + by, theta=theta) * turned(rope, k, n + by, theta=theta)).sum(-1)
        for by in (0, shift)
    ]
    bound = 2 * slack(m, n, shift, shift) * (q.norm(dim=-1) * k.norm(dim=-1))
    assert ((scores[0] - scores[1]).abs() <= bound).all()


@examples
@given(a=positions, b=positions, dim=dims, theta=thetas, seed=seeds, interleaved=st.booleans())
def test_rotations_add_up(rope, device, a, b, dim, theta, seed, interleaved):
    x = vectors(seed, dim, device)
    options = {"theta": theta, "interleaved": interleaved}
    twice = turned(rope, turned(rope, x, a, **options), b, **options)
    once = turned(rope, x, a + b, **options)
    assert (twice - once).norm() <= 2 * slack(a, b) * x.norm()


@examples
@given(m=positions, dim=dims, seed=seeds, interleaved=st.booleans(), data=st.data())
def test_a_nan_touches_its_own_pair_only(rope, device, m, dim, seed, interleaved, data):
    x = vectors(seed, dim, device, count=3)
    clean = turned(rope, x, m, interleaved=interleaved)
    head, column = data.draw(st.integers(0, 2)), data.draw(st.integers(0, dim - 1))
    x[0, 0, head, column] = float("nan")
    y = turned(rope, x, m, interleaved=interleaved)
    touched = torch.zeros_like(x, dtype=torch.bool)
    for pair in zip(*pair_columns(dim // 2, interleaved), strict=True):
        if column in pair:
            touched[0, 0, head, list(pair)] = True
    assert torch.equal(y.isnan(), touched)
    assert torch.equal(y[~touched], clean[~touched])


@examples
@given(dim=dims, theta=thetas, seed=seeds, interleaved=st.booleans())
def test_position_0_changes_no_bit(rope, device, dim, theta, seed, interleaved):
    x = vectors(seed, dim, device)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        cast = x.to(dtype)
        assert torch.equal(turned(rope, cast, 0, theta=theta, interleaved=interleaved), cast)


@examples
@given(m=positions, dim=dims, seed=seeds)
def test_oddness_and_scale_are_exact(rope, device, m, dim, seed):
    x = vectors(seed, dim, device).float()
    y = turned(rope, x, m)
    assert torch.equal(turned(rope, -x, m), -y)
    assert torch.equal(turned(rope, 2 * x, m), 2 * y)


@examples
@given(m=positions, dim=dims, seed=seeds)
def test_the_two_pairings_are_one_rotation_reordered(rope, device, m, dim, seed):
    x = vectors(seed, dim, device)
    order = torch.tensor([*range(0, dim, 2), *range(1, dim, 2)], device=device)
    interleaved = turned(rope, x, m, interleaved=True)
    half_split = turned(rope, x[..., order], m, interleaved=False)
    torch.testing.assert_close(interleaved[..., order], half_split, rtol=0, atol=1e-14)
