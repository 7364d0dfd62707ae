"""The rotation of both backends against the oracle: dtypes, positions, shapes, layouts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels import inverse_frequencies, rope_phases, rope_triton
from model import rope_frequencies
from oracle import DEVICES, ROPES, assert_rotated, rotated

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# What every position has to survive: the origin, where float32 angles fail, int32's end, signs.
POSITIONS = [0, 1, 511, 2**20, 2**20 + 1, 2**31 - 1, 2**31, -1, -(2**20) - 3, -(2**31)]
FAR_POSITIONS = [2**31 + 1, -(2**33) - 7, 2**36 + 12345, -(2**39) + 1, 2**40, -(2**40)]

pytestmark = [
    pytest.mark.parametrize("rope", ROPES),
    pytest.mark.parametrize("device", DEVICES),
]


def tensors(
    batch: int,
    seq_len: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    q = torch.randn(batch, seq_len, heads, head_dim, generator=generator, dtype=torch.float64)
    k = torch.randn(batch, seq_len, kv_heads, head_dim, generator=generator, dtype=torch.float64)
    return q.to(dtype).to(device), k.to(dtype).to(device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [True, False])
def test_every_dtype_at_every_position(rope, device, dtype, interleaved):
    q, k = tensors(1, len(POSITIONS), 2, 1, 64, dtype, device)
    positions = torch.tensor(POSITIONS, device=device)
    q_out, k_out = rope(q, k, positions=positions, interleaved=interleaved)
    inv_freq = inverse_frequencies(64).tolist()
    assert_rotated(q_out, q, POSITIONS, inv_freq, interleaved)
    assert_rotated(k_out, k, POSITIONS, inv_freq, interleaved)


@pytest.mark.parametrize("rotary_dim", [2, 6, 64, 96, 128, 512])
@pytest.mark.parametrize("interleaved", [True, False])
def test_rotary_dims(rope, device, rotary_dim, interleaved):
    q, k = tensors(1, len(POSITIONS), 1, 1, rotary_dim, device=device)
    positions = torch.tensor(POSITIONS, device=device)
    q_out, k_out = rope(q, k, positions=positions, interleaved=interleaved)
    inv_freq = inverse_frequencies(rotary_dim).tolist()
    assert_rotated(q_out, q, POSITIONS, inv_freq, interleaved)
    assert_rotated(k_out, k, POSITIONS, inv_freq, interleaved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rotary_dim, head_dim", [(2, 64), (6, 10), (16, 64), (48, 96)])
@pytest.mark.parametrize("interleaved", [True, False])
def test_partial_rotation_passes_the_tail_through(
    rope, device, dtype, rotary_dim, head_dim, interleaved
):
    q, k = tensors(2, 5, 3, 1, head_dim, dtype, device)
    inv_freq = inverse_frequencies(rotary_dim)
    q_out, k_out = rope(q, k, inv_freq=inv_freq, interleaved=interleaved)
    for y, x in ((q_out, q), (k_out, k)):
        assert_rotated(y, x, list(range(5)), inv_freq.tolist(), interleaved)


@pytest.mark.parametrize("heads, kv_heads", [(1, 1), (6, 2), (3, 5), (12, 12), (32, 8)])
def test_head_counts(rope, device, heads, kv_heads):
    q, k = tensors(2, 3, heads, kv_heads, 8, device=device)
    q_out, k_out = rope(q, k)
    inv_freq = inverse_frequencies(8).tolist()
    assert_rotated(q_out, q, [0, 1, 2], inv_freq)
    assert_rotated(k_out, k, [0, 1, 2], inv_freq)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_positions_of_each_sequence(rope, device, dtype):
    q, k = tensors(2, 3, 2, 1, 8, device=device)
    rows = [[5, -7, 2**31 - 1], [0, 123456, -(2**31)]]
    inv_freq = inverse_frequencies(8).tolist()
    for positions in (
        torch.tensor(rows, dtype=dtype, device=device),
        torch.tensor(rows, dtype=dtype, device=device).T.contiguous().T,
    ):
        q_out, k_out = rope(q, k, positions=positions)
        assert_rotated(q_out, q, rows, inv_freq)
        assert_rotated(k_out, k, rows, inv_freq)
    one_row = torch.tensor([rows[0], rows[0]], dtype=dtype, device=device)[:, ::2]
    q_out, _ = rope(q[:, :2], k[:, :2], positions=one_row)
    assert_rotated(q_out, q[:, :2], rows[0][::2], inv_freq)


@pytest.mark.parametrize("theta", [1e2, 1e4, 5e5, 1e8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [True, False])
def test_every_theta_at_far_positions(rope, device, theta, dtype, interleaved):
    q, k = tensors(1, len(FAR_POSITIONS), 2, 1, 32, dtype, device)
    positions = torch.tensor(FAR_POSITIONS, device=device)
    options = {"theta": theta, "interleaved": interleaved}
    q_out, k_out = rope(q, k, positions=positions, **options)
    inv_freq = inverse_frequencies(32, theta).tolist()
    assert_rotated(q_out, q, FAR_POSITIONS, inv_freq, interleaved)
    assert_rotated(k_out, k, FAR_POSITIONS, inv_freq, interleaved)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "scaling",
    [
        {"method": "linear", "factor": 3.0},
        {"method": "ntk", "factor": 8.0},
        {"method": "yarn", "factor": 4.0},
        {"method": "llama3", "factor": 8.0, "theta": 5e5},
        {"method": "proportional", "partial_rotary_factor": 0.5},  # zeros among the frequencies
    ],
)
def test_frequencies_of_scalings(rope, device, dtype, scaling):
    everywhere = POSITIONS + FAR_POSITIONS
    inv_freq, factor = rope_frequencies(32, train_length=512, **scaling)
    q, k = tensors(1, len(everywhere), 2, 1, 36, dtype, device)
    positions = torch.tensor(everywhere, device=device)
    options = {"inv_freq": inv_freq, "attention_factor": factor, "interleaved": False}
    q_out, k_out = rope(q, k, positions=positions, **options)
    assert_rotated(q_out, q, everywhere, inv_freq.tolist(), False, factor)
    assert_rotated(k_out, k, everywhere, inv_freq.tolist(), False, factor)


@pytest.mark.parametrize(
    "position, bound",
    [
        (2**20, 2e-9),
        (-(2**26) - 1, 2e-9),
        (2**31, 2e-9),
        (-(2**31), 2e-9),
        (2**40, 2e-7),
        (-(2**40), 2e-7),
    ],
)
def test_angle_error(rope, device, position, bound):
    """Seen where whole turns leave next to nothing, which the float32 sine then cannot hide."""
    turns = torch.arange(1, 2**18, 2**14, dtype=torch.float64)
    inv_freq = turns * 2 * torch.pi / abs(position) + 1e-6 / position
    x = torch.tensor([1.0, 0.0], device=device).repeat(len(turns)).view(1, 1, 1, -1)
    at = torch.tensor([position], device=device)
    y = rope(x, x, positions=at, inv_freq=inv_freq)[0].cpu().double()
    exact = rotated(x, [position], inv_freq.tolist())
    sines, exact_sines = y[..., 1::2], exact[..., 1::2]
    assert exact_sines.abs().max() < 1e-3
    assert ((sines - exact_sines).abs() <= bound + 1e-7 * exact_sines.abs()).all()


def test_attention_factor_is_exact_in_float64(rope, device):
    inv_freq = inverse_frequencies(8).tolist()
    for dtype in DTYPES:
        q, k = tensors(1, 4, 2, 2, 8, dtype, device)
        q_out, k_out = rope(q, k, attention_factor=1.1386294361)
        assert_rotated(q_out, q, [0, 1, 2, 3], inv_freq, factor=1.1386294361)
        assert_rotated(k_out, k, [0, 1, 2, 3], inv_freq, factor=1.1386294361)


@pytest.mark.parametrize("theta", [1e2, 5e5, 1e8])
def test_theta_inv_freq_and_phases_say_the_same(rope, device, theta):
    q, k = tensors(1, 7, 2, 1, 32, device=device)
    inv_freq = inverse_frequencies(32, theta)
    by_theta = rope(q, k, 7, theta)
    assert_rotated(by_theta[0], q, list(range(7)), inv_freq.tolist())
    by_inv_freq = rope(q, k, inv_freq=inv_freq)  # on the CPU, wherever q is
    by_phases = rope(q, k, phases=rope_phases(inv_freq.to(device)))
    for others in (by_inv_freq, by_phases):
        assert torch.equal(by_theta[0], others[0]) and torch.equal(by_theta[1], others[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("interleaved", [True, False])
def test_layouts_are_read_where_they_lie_and_never_written(rope, device, dtype, interleaved):
    q, k = tensors(2, 5, 4, 4, 8, dtype, device)
    packed = torch.cat((q, k, q), dim=2)
    layouts = {
        "transposed (B, H, S, D)": q.transpose(1, 2).contiguous().transpose(1, 2),
        "slice of a packed projection": packed[:, :, :4],
        "every second component": q.repeat_interleave(2, dim=-1)[..., ::2],
        "every second token": q.repeat_interleave(2, dim=1)[:, ::2],
        "D before S": q.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1),
        "odd offset": torch.nn.functional.pad(q.flatten(), (3, 0))[3:].view_as(q),
    }
    expected = rope(q, k, interleaved=interleaved)
    for name, layout in layouts.items():
        before = layout.clone()
        q_out, k_out = rope(layout, k, interleaved=interleaved)
        assert torch.equal(q_out, expected[0]), name
        assert torch.equal(k_out, expected[1]), name
        assert torch.equal(layout, before), name
        k_out, q_out = rope(k, layout, interleaved=interleaved)
        assert torch.equal(q_out, expected[0]), name
    assert torch.equal(packed, torch.cat((q, k, q), dim=2))


def test_expanded_tensors(rope, device):
    one, k = tensors(1, 1, 1, 1, 8, device=device)
    q, k = one.expand(2, 4, 3, 8), k.expand(2, 4, 1, 8)
    q_out, k_out = rope(q, k)
    inv_freq = inverse_frequencies(8).tolist()
    assert_rotated(q_out, q, [0, 1, 2, 3], inv_freq)
    assert_rotated(k_out, k, [0, 1, 2, 3], inv_freq)
    before = one.clone()
    q_out.zero_()  # the result is its own memory
    assert torch.equal(one, before)


@pytest.mark.parametrize("shape", [(0, 4, 2, 8), (2, 0, 2, 8), (0, 0, 2, 8)])
def test_empty_tensors(rope, device, shape):
    q = torch.randn(shape, device=device, requires_grad=True)
    q_out, k_out = rope(q, q)
    assert q_out.shape == k_out.shape == shape
    (q_out.sum() + k_out.sum()).backward()
    assert q.grad.shape == shape


def test_many_tiles(rope, device):
    """More tokens and heads than one tile of either device holds."""
    q, k = tensors(3, 41, 20, 9, 8, device=device)
    q_out, k_out = rope(q, k)
    inv_freq = inverse_frequencies(8).tolist()
    assert_rotated(q_out, q, list(range(41)), inv_freq)
    assert_rotated(k_out, k, list(range(41)), inv_freq)


def test_the_same_twice(rope, device):
    q, k = tensors(2, 9, 3, 2, 16, torch.bfloat16, device)
    first, second = rope(q, k), rope(q, k)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_interleaved_is_a_product_of_complex_numbers(rope, device):
    """RoFormer, section 3.2: pair (2i, 2i + 1) is a complex number times e^(i·m·theta_i)."""
    q, k = tensors(2, 6, 3, 1, 16, torch.float64, device)
    frequency = 10000.0 ** (-2 * torch.arange(8, dtype=torch.float64) / 16)
    turn = torch.polar(
        torch.ones(6, 8, dtype=torch.float64), torch.outer(torch.arange(6), frequency)
    )
    for y, x in zip(rope(q, k), (q, k), strict=True):
        pairs = torch.view_as_complex(x.cpu().unflatten(-1, (8, 2)))
        expected = torch.view_as_real(pairs * turn[:, None, :]).flatten(-2)
        torch.testing.assert_close(y.cpu(), expected, rtol=0, atol=1e-13)


def test_half_split_is_what_llama_does(rope, device):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k = tensors(2, 6, 4, 2, 16, torch.float64, device)
    frequency = 1.0 / 10000.0 ** (torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    angle = torch.outer(torch.arange(6), frequency).repeat(1, 2)[None].to(device)  # (1, S, D)
    expected = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), angle.cos(), angle.sin())
    for y, x in zip(rope(q, k, interleaved=False), expected, strict=True):
        torch.testing.assert_close(y, x.transpose(1, 2), rtol=0, atol=1e-13)


def test_sines_are_exact_to_float32s_last_digit(rope, device):
    """Of turns all around the circle: the kernel's polynomials hold to what their docstring says.

    PyTorch's sine takes a float32 angle, which near half a turn is itself rounded by 1.2e-7.
    """
    generator = torch.Generator().manual_seed(5)
    count, pairs = 2048, 32
    phases = torch.randint(-(2**63), 2**63 - 1, (pairs,), generator=generator)
    positions = torch.randint(-(2**31), 2**31, (count,), generator=generator)
    x = torch.tensor([1.0, 0.0]).repeat(pairs).expand(1, count, 1, -1).to(device)
    y, _ = rope(x, x, positions=positions.to(device), phases=phases.to(device))
    angle = (positions[:, None] * phases).double() * (2 * torch.pi / 2**64)
    cos, sin = y.cpu().double()[0, :, 0].unflatten(-1, (-1, 2)).unbind(-1)
    error = torch.hypot(cos - angle.cos(), sin - angle.sin())
    most, typical = (1.4e-7, 4e-8) if rope is rope_triton else (3.5e-7, 1.2e-7)
    assert error.max() <= most and error.square().mean().sqrt() <= typical
