"""The kernel cut into many programs, as few tokens are on a GPU, in the interpreter."""

import pytest
import torch

from kernels import rope_pytorch, rope_qkv, rope_triton, rope_triton_
from kernels.rope.triton import plan, sizes
from kernels.rope.triton.sizes import (
    ALL,
    MAX_GROUPS,
    MAX_TILE,
    ONE,
    TOGETHER,
    Head,
    Tile,
    groups_of,
    rotation_tile,
)

# Each with the programs that it gives 7 heads of q and 3 of k, along the grid's second axis.
TILES = [
    (Tile(2, 2, ONE, 1), 6),
    (Tile(1, 4, ONE, 1), 3),
    (Tile(2, 8, ALL, 1), 1),
    (Tile(2, 2, TOGETHER, 1), 4),
]


@pytest.fixture
def launches(monkeypatch):
    """Every launch of a test: its grid and its numbers."""
    launched = []

    def recorded(*arguments):
        launched.append(arguments[1:3])
        return launch(*arguments)

    launch = plan.Launch
    plan._rotate_launch.cache_clear()
    monkeypatch.setattr(plan, "Launch", recorded)
    yield launched
    plan._rotate_launch.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interleaved", "seq_len"),
    [(True, 1), (False, 1), (True, 3), (False, 3)],
)
@pytest.mark.parametrize(("tile", "groups"), TILES)
def test_every_head_is_rotated_whichever_program_takes_it(
    launches, monkeypatch, tile, groups, seq_len, interleaved
):
    monkeypatch.setattr(plan, "rotation_tile", lambda *_: tile)
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
    assert [grid[1] for grid, _ in launches] == [groups] * 2
    assert all(grid[0] > 1 for grid, _ in launches)


@pytest.mark.parametrize("takes", [ONE, TOGETHER])
def test_a_grid_without_room_for_all_groups_has_one(launches, monkeypatch, takes):
    monkeypatch.setattr(sizes, "MAX_GROUPS", 2)
    monkeypatch.setattr(plan, "rotation_tile", lambda *_: Tile(2, 2, takes, 1))
    q, k = torch.randn(5, 1, 7, 12), torch.randn(5, 1, 3, 12)
    for y, right in zip(rope_triton(q, k), rope_pytorch(q, k), strict=True):
        torch.testing.assert_close(y, right, rtol=0, atol=2e-6)
    assert [grid[1] for grid, _ in launches] == [1]


def test_strides_are_passed_only_where_some_tensor_is_not_contiguous(launches):
    contiguous = torch.randn(1, 6, 4, 8)
    odd = contiguous.as_strided((1, 6, 4, 8), (7, 32, 8, 1))  # the stride of one batch is none
    heads_first = torch.randn(1, 4, 6, 8).transpose(1, 2)
    for q in (contiguous, odd, heads_first):
        for y, right in zip(rope_triton(q, contiguous), rope_pytorch(q, contiguous), strict=True):
            torch.testing.assert_close(y, right, rtol=0, atol=2e-6)
    assert [numbers[0] is None for _, numbers in launches] == [True, True, False]


@pytest.mark.parametrize("tile", [tile for tile, _ in TILES if tile.takes != TOGETHER])
def test_the_packed_operator_too(launches, monkeypatch, tile):
    monkeypatch.setattr(plan, "rotation_tile", lambda *_: tile)
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


def test_what_is_taken_together():
    """q and k alone: of many heads and few tokens, and where k has few heads."""
    head, short = Head(128, 128, True, 64, 0), Head(64, 64, True, 32, 0)

    def takes(n_tokens, heads, head, norms=False):
        return rotation_tile(n_tokens, heads, head, 2, False, norms).takes

    assert takes(256, (12, 12), short) == takes(64, (32, 32), head) == TOGETHER
    assert takes(16, (12, 12), short) == takes(256, (12, 12, 12), short) == ONE
    assert takes(64, (32, 8), head) == takes(2**15, (32, 8), head) == ONE
    assert takes(2**15, (32, 1), head) == TOGETHER
    assert takes(2**15, (32, 1, 1), head) == takes(2**15, (32, 1), head, norms=True) == ALL


def test_each_block_of_heads_has_one_program():
    assert groups_of((4, 1, 1), ONE) == (6, ONE)
    assert groups_of((4, 1), TOGETHER) == (4, TOGETHER)
    assert groups_of((4, 1), ALL) == (1, ALL)
    assert groups_of((MAX_GROUPS, 1), ONE) == (1, ALL)  # more than a grid has room for


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 64, 300, 1000, 2**20])
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize(
    ("pairs", "tail"), [(1, 0), (4, 4), (32, 0), (32, 64), (64, 0), (256, 0), (1, 4096), (2, 2**17)]
)
def test_tiles_of_a_gpu_are_ones_that_triton_takes(n_tokens, norms, pairs, tail):
    head = Head(2 * pairs + tail, 2 * pairs, True, pairs, tail)
    for itemsize in (2, 4, 8):
        for heads in ((8, 8), (12, 1, 1), (0, 3), (40, 8, 8), (500, 500)):
            tile = rotation_tile(n_tokens, heads, head, itemsize, cpu=False, norms=norms)
            for number in (tile.tokens, tile.heads, tile.warps):
                assert number >= 1 and number & (number - 1) == 0
            assert tile.tokens * tile.heads * max(2 * pairs, tail) <= MAX_TILE
            assert tile.tokens < 2 * n_tokens and tile.warps <= (1 if norms else 8)
