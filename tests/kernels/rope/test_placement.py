"""Offsets and segments: tokens that do not stand at 0 ... S - 1, on both backends."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from kernels import inverse_frequencies, rope_phases, rope_pytorch, rope_triton
from kernels.operators import OPS
from oracle import DEVICES, ROPES, assert_rotated

INTEGERS = [torch.int32, torch.int64]
INV_FREQ = inverse_frequencies(8).tolist()
OFFSETS = [(0, 1), (-5, 7), (2**31 - 2, -(2**31)), (2**40, -(2**40) + 3)]
# (cu_seqlens, seq_len): one segment and many, empty ones, and tokens before and after all of them
SEGMENTS = [
    ([0, 5], 5),
    ([0, 2, 5], 5),
    ([0, 1, 2, 3, 4], 4),
    ([0, 0, 0, 2, 2, 5, 5], 5),
    ([0, 3], 7),
    ([2, 4], 6),
    ([5, 9], 3),
]

everywhere = pytest.mark.parametrize("device", DEVICES)
both = pytest.mark.parametrize("rope", ROPES)


def tensors(batch: int, seq_len: int, device: str, dtype: torch.dtype = torch.float32):
    """q (B, S, 3, 8) and k (B, S, 1, 8)."""
    generator = torch.Generator().manual_seed(13)
    shapes = (batch, seq_len, 3, 8), (batch, seq_len, 1, 8)
    q, k = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return q.to(device, dtype), k.to(device, dtype)


def integers(values: list[int], dtype: torch.dtype, device: str) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


def restarted(cu_seqlens: list[int], seq_len: int) -> list[int]:
    """The position of every token: how far it stands behind the last start at or before it."""
    starts = [max((c for c in cu_seqlens if c <= t), default=cu_seqlens[0]) for t in range(seq_len)]
    return [t - start for t, start in enumerate(starts)]


def assert_same(results: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """To the last bit."""
    for result, right in zip(results, expected, strict=True):
        assert torch.equal(result, right)


def placements(device: str) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    """Options of each kind for one sequence of 5 tokens, and the positions that they mean."""
    cu_seqlens = [0, 2, 2, 3]
    return {
        "offsets": (
            {"offsets": integers([-3], torch.int32, device)},
            torch.arange(-3, 2, device=device),
        ),
        "cu_seqlens": (
            {"cu_seqlens": integers(cu_seqlens, torch.int32, device)},
            integers(restarted(cu_seqlens, 5), torch.int64, device),
        ),
    }


@everywhere
@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("offsets", OFFSETS)
def test_offsets(rope, device, dtype, offsets):
    q, k = tensors(2, 4, device, dtype)
    positions = [list(range(offset, offset + 4)) for offset in offsets]
    for integer in INTEGERS if max(offsets) < 2**31 else INTEGERS[1:]:
        q_out, k_out = rope(q, k, offsets=integers(offsets, integer, device))
        assert_rotated(q_out, q, positions, INV_FREQ)
        assert_rotated(k_out, k, positions, INV_FREQ)


@everywhere
@both
@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("cu_seqlens, seq_len", SEGMENTS)
def test_segments(rope, device, integer, cu_seqlens, seq_len):
    q, k = tensors(1, seq_len, device)
    q_out, k_out = rope(q, k, cu_seqlens=integers(cu_seqlens, integer, device))
    positions = restarted(cu_seqlens, seq_len)
    assert_rotated(q_out, q, positions, INV_FREQ)
    assert_rotated(k_out, k, positions, INV_FREQ)


@everywhere
@both
@pytest.mark.parametrize("interleaved", [True, False])
def test_200_random_segments_are_their_positions(rope, device, interleaved):
    draw = random.Random(17)
    cu_seqlens = sorted([0, 700, *(draw.randint(0, 700) for _ in range(199))])
    positions = integers(restarted(cu_seqlens, 700), torch.int64, device)
    q, k = tensors(1, 700, device, torch.bfloat16)
    for integer in INTEGERS:
        starts = integers(cu_seqlens, integer, device)
        results = rope(q, k, cu_seqlens=starts, interleaved=interleaved)
        assert_same(results, rope(q, k, positions=positions, interleaved=interleaved))


@everywhere
@both
def test_a_segment_is_rotated_as_if_it_stood_alone(rope, device):
    q, k = tensors(1, 9, device)
    packed = rope(q, k, cu_seqlens=integers([0, 4, 9], torch.int32, device))
    for piece in (slice(0, 4), slice(4, 9)):
        assert_same([x[:, piece] for x in packed], rope(q[:, piece], k[:, piece]))


@everywhere
@both
def test_one_more_token_after_a_cache(rope, device):
    """Decoding: a step at a time, each sequence as far as it is, as all at once."""
    q, k = tensors(3, 6, device)
    starts = integers([4, 0, 1000], torch.int64, device)
    whole = rope(q, k, offsets=starts)
    for step in range(6):
        token = slice(step, step + 1)
        results = rope(q[:, token], k[:, token], offsets=starts + step)
        expected = tuple(x[:, token] for x in whole)  # PyTorch's sine has two roundings on a CPU
        torch.testing.assert_close(results, expected, rtol=0, atol=1e-6)


@everywhere
@both
@pytest.mark.parametrize("integer", INTEGERS)
def test_strided_offsets_and_segments(rope, device, integer):
    q, k = tensors(1, 6, device)
    cu_seqlens = integers([0, 9, 2, 9, 6, 9], integer, device)[::2]
    assert_same(rope(q, k, cu_seqlens=cu_seqlens), rope(q, k, cu_seqlens=cu_seqlens.clone()))
    q, k = tensors(3, 2, device)
    offsets = integers([3, 7, -3], integer, device)
    for strided in (offsets.repeat_interleave(2)[::2], offsets.flip(0)[:1].expand(3)):
        assert_same(rope(q, k, offsets=strided), rope(q, k, offsets=strided.clone()))


@everywhere
@both
def test_no_tokens_and_no_sequences(rope, device):
    q, k = tensors(1, 0, device)
    cu_seqlens = integers([0, 0], torch.int64, device)
    assert rope(q, k, cu_seqlens=cu_seqlens)[0].shape == (1, 0, 3, 8)
    q, k = tensors(0, 4, device)
    assert rope(q, k, offsets=integers([], torch.int64, device))[1].shape == (0, 4, 1, 8)


@everywhere
@both
@pytest.mark.parametrize("kind", ["offsets", "cu_seqlens"])
def test_gradients(rope, device, kind):
    options, positions = placements(device)[kind]
    results = []
    for option in (options, {"positions": positions}):
        q, k = (x.requires_grad_() for x in tensors(1, 5, device))
        rotated = rope(q, k, **option, interleaved=False)
        loss = rotated[0].pow(3).sum() + rotated[1].square().sum()
        results.append(torch.autograd.grad(loss, (q, k)))
    assert_same(*results)
    assert (results[0][0] != 0).all()


@everywhere
@both
@pytest.mark.parametrize("kind", ["offsets", pytest.param("cu_seqlens", marks=pytest.mark.slow)])
def test_gradcheck_and_gradgradcheck(rope, device, kind):
    options, _ = placements(device)[kind]
    inputs = tuple(x.requires_grad_() for x in tensors(1, 5, device, torch.float64))

    def function(q, k):
        return rope(q, k, **options, attention_factor=0.7)

    assert gradcheck(function, inputs, check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


@everywhere
@pytest.mark.parametrize("dims", [(0, None), (1, 0), (None, 2)])
@pytest.mark.parametrize("kind", ["positions", "offsets", "cu_seqlens"])
def test_func_vmap_over_tensors(device, dims, kind):
    q, k = tensors(2 if kind == "offsets" else 1, 5, device)
    options = {
        "positions": {"positions": torch.arange(5, device=device) * 3},
        "offsets": {"offsets": integers([5, -2], torch.int32, device)},
        "cu_seqlens": {"cu_seqlens": integers([0, 2, 5], torch.int32, device)},
    }[kind]
    q, k = (
        x if dim is None else torch.stack([x, x + 3, x * 2], dim)
        for x, dim in zip((q, k), dims, strict=True)
    )
    results = [
        torch.func.vmap(lambda q, k, rope=rope: rope(q, k, **options), dims)(q, k)
        for rope in (rope_triton, rope_pytorch)
    ]
    torch.testing.assert_close(*results)


@everywhere
@pytest.mark.parametrize("kind, rows", [("offsets", [[3], [-4]]), ("cu_seqlens", [[0, 5], [0, 2]])])
def test_func_vmap_over_placements_is_right_or_raises(device, kind, rows):
    q, k = tensors(1, 5, device)
    stacked = torch.tensor(rows, device=device)

    def rotate(row, rope):
        return rope(q, k, **{kind: row})

    expected = [
        torch.stack(x) for x in zip(*(rotate(r, rope_pytorch) for r in stacked), strict=True)
    ]
    results = torch.func.vmap(lambda row: rotate(row, rope_pytorch))(stacked)
    torch.testing.assert_close(list(results), expected)
    try:
        results = torch.func.vmap(lambda row: rotate(row, rope_triton))(stacked)
    except ValueError as error:
        assert f"{kind} under vmap" in str(error)
    else:
        torch.testing.assert_close(list(results), expected)


@pytest.mark.slow
@everywhere
@both
@pytest.mark.parametrize("kind", ["offsets", "cu_seqlens"])
def test_compiled_in_one_graph(rope, device, kind):
    options, _ = placements(device)[kind]
    torch._dynamo.reset()
    compiled = torch.compile(rope, fullgraph=True)
    results = []
    for function in (rope, compiled):
        q, k = (x.requires_grad_() for x in tensors(1, 5, device))
        rotated = function(q, k, **options)
        loss = rotated[0].pow(3).sum() + rotated[1].square().sum()
        results.append((*rotated, *torch.autograd.grad(loss, (q, k))))
    torch.testing.assert_close(*results)


@everywhere
def test_compiled_with_numbers_of_segments_that_change(device):
    torch._dynamo.reset()
    compiled = torch.compile(rope_triton, fullgraph=True, dynamic=True)
    for cu_seqlens in ([0, 3, 5], [0, 1, 2, 7]):
        q, k = tensors(1, cu_seqlens[-1], device)
        starts = integers(cu_seqlens, torch.int32, device)
        torch.testing.assert_close(
            compiled(q, k, cu_seqlens=starts), rope_pytorch(q, k, cu_seqlens=starts)
        )


@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["positions", "offsets", "cu_seqlens"])
def test_opcheck(device, dtype, kind):
    q, k = (x.requires_grad_() for x in tensors(1, 5, device, dtype))
    given = {
        "positions": torch.arange(5, device=device),
        "offsets": integers([9], torch.int64, device),
        "cu_seqlens": integers([0, 2, 5], torch.int32, device),
    }
    where = [given[name] if name == kind else None for name in given]
    phases = rope_phases(inverse_frequencies(4)).to(device)
    arguments = (q, k, phases, *where, False, 1.5, False)
    torch.library.opcheck(OPS.rotate, arguments)
