"""The kernel cut into many programs, as few tokens are on a GPU, in the interpreter."""

import pytest
import torch

from kernels import rope_pytorch, rope_qkv, rope_triton, rope_triton_, triton_rotate
from kernels.tile_sizes import (
    ALL,
    MAX_GROUPS,
    MAX_TILE,
    ONE,
    TOGETHER,
    Tile,
    groups_of,
    rotation_tile,
)


@pytest.fixture(
    params=[Tile(2, 2, ONE, 1), Tile(1, 4, ONE, 1), Tile(2, 8, ALL, 1), Tile(2, 2, TOGETHER, 1)]
)
def launches(request, monkeypatch):
    """That tile for every launch; how many programs each had."""
    grids = []

    def recorded(*arguments):
        grids.append(arguments[1])
        return launch(*arguments)

    launch = triton_rotate.Launch
    triton_rotate._rotate_launch.cache_clear()
    monkeypatch.setattr(triton_rotate, "rotation_tile", lambda *_: request.param)
    monkeypatch.setattr(triton_rotate, "Launch", recorded)
    yield grids
    triton_rotate._rotate_launch.cache_clear()


@pytest.mark.parametrize("seq_len", [1, 3])
@pytest.mark.parametrize("interleaved", [True, False])
def test_every_head_is_rotated_whichever_program_takes_it(launches, seq_len, interleaved):
    q, k = torch.randn(5, seq_len, 7, 12), torch.randn(5, seq_len, 3, 12)
    offsets = torch.tensor([7, 0, 2**33, -4, 1])
    inv_freq = torch.tensor([1.0, 0.3, 0.01, 2.0], dtype=torch.float64)  # a tail of four
    options = {"offsets": offsets, "inv_freq": inv_freq, "interleaved": interleaved}
    expected = rope_pytorch(q, k, **options)
    for y, right in zip(rope_triton(q, k, **options), expected, strict=True):
        torch.testing.assert_close(y, right, rtol=0, atol=2e-6)
    rope_triton_(q, k, **options)
    for y, right in zip((q, k), expected, strict=True):
        torch.testing.assert_close(y, right, rtol=0, atol=2e-6)
    assert all(grid[0] > 1 for grid in launches) and len(launches) == 2


def test_the_packed_operator_too(launches):
    qkv = torch.randn(2, 1, (7 + 3 + 3) * 8, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(8, dtype=torch.float64, requires_grad=True)
    options = {"n_heads": 7, "n_kv_heads": 3, "q_norm": weight, "k_norm": weight}
    results = []
    for backend in ("triton", "pytorch"):
        outputs = rope_qkv(qkv, **options, offsets=torch.tensor([3, 11]), backend=backend)
        loss = sum((y * torch.arange(y.numel()).view_as(y).sin()).sum() for y in outputs)
        results.append([*outputs, *torch.autograd.grad(loss, (qkv, weight))])
    for y, right in zip(*results, strict=True):
        torch.testing.assert_close(y, right)


def test_each_block_of_heads_has_one_program():
    assert groups_of((4, 1, 1), ONE) == (0, 4, 5, 6)
    assert groups_of((4, 1), ALL) is None
    assert groups_of((MAX_GROUPS, 1), ONE) is None  # more than a grid has room for


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 64, 300, 1000, 2**20])
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize(
    ("pairs", "tail"), [(1, 0), (4, 4), (32, 0), (32, 64), (64, 0), (256, 0), (1, 4096), (2, 2**17)]
)
def test_tiles_of_a_gpu_are_ones_that_triton_takes(n_tokens, norms, pairs, tail):
    head = (2 * pairs + tail, 2 * pairs, True, pairs, tail)
    for itemsize in (2, 4, 8):
        for heads in ((8, 8), (12, 1, 1), (0, 3), (40, 8, 8), (500, 500)):
            tile = rotation_tile(n_tokens, heads, head, itemsize, cpu=False, norms=norms)
            for number in (tile.tokens, tile.heads, tile.warps):
                assert number >= 1 and number & (number - 1) == 0
            assert tile.tokens * tile.heads * max(2 * pairs, tail) <= MAX_TILE
            assert tile.tokens < 2 * n_tokens and tile.warps <= (1 if norms else 8)
