"""How much of the tensors each program of a kernel takes, and what a kernel is compiled for.

Head, Heads and Sine are constants of the kernels, known to the compiler: HEAD, HEADS, SINE there.
"""

from __future__ import annotations

from typing import NamedTuple

import triton

MAX_TILE = 2**20  # elements: Triton's own limit
MAX_GROUPS = 65535  # programs along a grid's second axis
MULTIPROCESSORS = 132  # of an H100 or H200: what the tiles were measured on
THREADS_OF_WARP = 32
BYTES_OF_THREAD = 16  # that it reads at once
BYTES_OF_PROGRAM = 2048  # of a tensor, at least: fewer are not worth starting it for
BYTES_OF_WARP = 4096  # of a tensor; twice as many where no other warp shares the work
MOST_ELEMENTS = 4096  # of one token's heads that a program takes
MOST_TOKENS = 64  # of a program, however short their heads
# Of few tokens, a program that takes one tensor, and one that takes q and k together:
FEW_TOKENS, FEW_WARPS = 4, 4
FEW_HEADS, FEW_WARPS_TOGETHER = 4, 8

# What a program takes: all heads of q, k and v, block after block; one block of one of them; or a
# block of q and one of k, without norms and v, both read before anything is computed.
ALL, ONE, TOGETHER = "all", "one", "together"


class Head(NamedTuple):
    """A head's components. The blocks are powers of two, as the lengths of tiles must be."""

    dim: int
    rotary_dim: int  # how many are rotated, the first ones
    interleaved: bool
    block_pairs: int
    block_tail: int  # of what is not rotated; 0: there is nothing, or it stays where it is


class Heads(NamedTuple):
    """The heads of one tensor, as they are taken: `blocks` times `block` of them."""

    total: int
    block: int  # a power of two
    blocks: int


class Sine(NamedTuple):
    """How cosine and sine are computed."""

    float64: bool  # for float64 data
    hardware: bool  # by the GPU's own unit, for 16-bit data
    interpreted: bool  # in Triton's interpreter


class Tile(NamedTuple):
    """What a program has in its hands at once."""

    tokens: int
    heads: int  # of a block, at most
    takes: str
    warps: int

    def replicated(self, head: Head, heads: tuple[Heads, ...]) -> bool:
        """Whether several threads hold the same pair: of a tile with fewer pairs than threads."""
        pairs = self.tokens * min(of.block for of in heads) * head.block_pairs
        return pairs < self.warps * THREADS_OF_WARP


def in_blocks(counts: tuple[int, ...], tile: Tile) -> tuple[Heads, ...]:
    """How the heads of each tensor are taken: no more at a time than it has, as a power of 2.

    Together, they are taken in as many blocks as those of the tensor that has the most.
    """
    sizes = tuple(min(tile.heads, triton.next_power_of_2(max(n, 1))) for n in counts)
    if tile.takes == TOGETHER:
        most = max(triton.cdiv(max(n, 1), size) for n, size in zip(counts, sizes, strict=True))
        sizes = tuple(triton.next_power_of_2(triton.cdiv(max(n, 1), most)) for n in counts)
    return tuple(
        Heads(n, size, triton.cdiv(n, size)) for n, size in zip(counts, sizes, strict=True)
    )


def groups_of(blocks: tuple[int, ...], takes: str) -> tuple[int, str]:
    """Programs along a grid's second axis, for so many blocks of each tensor; and what they take.

    That is ALL where the axis has no room for the others.
    """
    n_groups = {ALL: 1, ONE: sum(blocks), TOGETHER: max(blocks)}[takes]
    return (n_groups, takes) if n_groups <= MAX_GROUPS else (1, ALL)


def rotation_tile(
    n_tokens: int,
    heads: tuple[int, ...],  # of q, k and v
    head: Head,
    itemsize: int,
    cpu: bool,
    norms: bool,
) -> Tile:
    """Tile sizes: many small ones for a GPU, one or few huge ones for the interpreter.

    Measured on an H100 over the shapes of benchmarks/shapes.py and some more
    (docs/results/kernel-trials-h100.json), stored tokens first. Of many tokens a program takes one,
    up to MOST_ELEMENTS of its heads of one tensor: a piece of memory that is read and written as a
    whole. Short ones come two or more at a time, long ones have more warps; and where one of the
    tensors has so few heads that they are not worth a program of their own, a program takes q and
    k together. Few tokens, whose time is that of waiting, are taken in blocks of as many heads as
    make one read of 16 bytes for each thread; together too, if q and k have as many heads and there
    would be many programs of one tensor. With v, which is copied, nothing is taken together.

    With norms a thread has more to hold, so that heads are fewer, and a head is summed by one warp,
    so that sums of any tile are in one order.
    """
    if cpu:
        return _interpreter_tile(n_tokens, head)
    tokens = max(_at_once(1) // 2 // (2 * head.block_pairs * itemsize), 1)
    tokens = min(tokens, triton.next_power_of_2(n_tokens))
    n_blocks = triton.cdiv(n_tokens, tokens)
    if norms and n_blocks < 8 * MULTIPROCESSORS:  # by trial; lower limits were not tried
        return Tile(_that_fit(tokens, 2, head), 2, ONE, 1)
    if norms:
        return Tile(_that_fit(tokens, 4, head), 4, ALL, 1)
    width = triton.next_power_of_2(head.dim) if head.block_tail else 2 * head.block_pairs
    if n_blocks < 2 * MULTIPROCESSORS:
        return _tile_of_few(n_tokens, heads, head, width * itemsize)
    most, fewest = (
        min(triton.next_power_of_2(n), max(MOST_ELEMENTS // width, 1))
        for n in (max(heads), min(n for n in heads if n))
    )
    tokens = min(max(BYTES_OF_PROGRAM // (most * width * itemsize), 1), MOST_TOKENS)
    size = tokens * width * itemsize  # bytes of one head
    if fewest * size < BYTES_OF_PROGRAM:
        takes = TOGETHER if len(heads) == 2 else ALL
        return Tile(tokens, max(min(most, 2 * BYTES_OF_WARP // size), 1), takes, 1)
    return Tile(tokens, most, ONE, min(max(most * size // BYTES_OF_WARP, 1), 4))


def _tile_of_few(n_tokens: int, heads: tuple[int, ...], head: Head, size: int) -> Tile:
    """Of few tokens without norms; `size` of a head in bytes."""
    tokens = min(FEW_TOKENS, triton.next_power_of_2(n_tokens))
    at_once = max(_at_once(FEW_WARPS) // (tokens * size), 1)
    n_programs = triton.cdiv(n_tokens, tokens) * sum(triton.cdiv(n, at_once) for n in heads)
    if len(heads) != 2 or len(set(heads)) > 1 or n_programs < 2 * MULTIPROCESSORS:
        return Tile(_that_fit(tokens, at_once, head), at_once, ONE, FEW_WARPS)
    tokens = max(_at_once(FEW_WARPS_TOGETHER) // (FEW_HEADS * size), 1)
    tokens = min(tokens, triton.next_power_of_2(n_tokens))
    return Tile(_that_fit(tokens, FEW_HEADS, head), FEW_HEADS, TOGETHER, FEW_WARPS_TOGETHER)


def _at_once(warps: int) -> int:
    """Bytes that so many warps read at once."""
    return warps * THREADS_OF_WARP * BYTES_OF_THREAD


def _that_fit(tokens: int, heads: int, head: Head) -> int:
    """So many tokens, or fewer of heads so long that Triton would refuse the tile."""
    return max(min(tokens, MAX_TILE // (heads * max(2 * head.block_pairs, head.block_tail))), 1)


def norm_tile(n_tokens: int, head: Head, itemsize: int, cpu: bool) -> Tile:
    """As `rotation_tile`, for a kernel that holds more of a head and sums over its blocks."""
    if cpu:
        return _interpreter_tile(n_tokens, head)
    tokens = max(_at_once(2) // (2 * head.block_pairs * itemsize), 1)
    return Tile(min(tokens, triton.next_power_of_2(n_tokens)), 2, ALL, 2)


def _interpreter_tile(n_tokens: int, head: Head) -> Tile:
    """A program costs about 5 ms, an element 0.1 µs."""
    width = max(2 * head.block_pairs, triton.next_power_of_2(head.dim - head.rotary_dim))
    return Tile(min(triton.next_power_of_2(n_tokens), max(MAX_TILE // width, 1)), 1, ALL, 1)
