"""The QKV projection whose own epilogue rotates: one GEMM for Hopper GPUs, written in Gluon.

    out (T, N) = x (T, C) · weight (N, C)ᵀ, bfloat16, accumulated in float32; then the columns of q
    and k, heads of 64, are rotated by their row's position, in float32, and rounded once.

A kernel that rotates after the projection reads and writes q and k once more. Here that traffic
is gone, and what is left, the arithmetic, runs while another warpgroup multiplies: on an H200 the
whole takes as long as the projection alone takes cuBLAS.

How it is built. There is a program for every multiprocessor, which goes from one tile of 256 rows
and 128 columns to the next. Its warps have roles (warp specialization):

    2 consumers, warpgroups of 4 warps: each multiplies 128 rows of the tile, rotates them, and
        hands them, 64 rows of one head at a time, to the TMA unit to be stored.
    3 producers, single warps: each keeps one ring of 4 stages filled by TMA: the rows of x of the
        first consumer, those of the second, and the rows of the weight, which both read.

A stage has two barriers: `full` (its bytes have arrived) and `empty` (all its readers are done).
Producers run ahead, over tiles too, so that an epilogue finds the next tile's data waiting. The
second consumer begins LATE steps after the first, and the rings let it stay behind: one rotates
while the other keeps the tensor cores busy.

Why it cannot hang, with 0 < LATE < STAGES. The second consumer starts when the first has freed
stage LATE - 1 of its own ring, and the first gets there alone, though only both together free a
stage of the weight (a tile has at least LATE steps). And a barrier tells only odd from even: the
second must see that stage freed once before it can be freed twice, STAGES steps later. The first
cannot come so far alone, as the weight's stages run out before.

Rows past T and their stores need no care: TMA reads zeros there, and writes nothing.

Angles are the top 32 bits of position · phase, exact; cosine and sine are the GPU's own
approximations (MUFU): the result is rounded to bfloat16, whose error is 2e-3.

Shapes: T tokens (B·S), C d_model, N (H + 2 H_kv) · 64, R rows in an epilogue's block.
"""

# No `from __future__ import annotations` here: gluon.jit reads the annotations as they stand.

import functools

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

# Measured on an H200 at C = 384, 768 and 1536 against other tiles, rings and schedules.
HEAD_DIM = gl.constexpr(64)
ROWS = gl.constexpr(128)  # of a consumer's part of a tile
COLUMNS = gl.constexpr(128)  # of a tile
DEPTH = gl.constexpr(64)  # columns of x and weight that one step multiplies
STAGES = gl.constexpr(4)
LATE = gl.constexpr(2)  # steps by which the second consumer starts later
CONSUMER_REGISTERS = gl.constexpr(240)  # of a thread
PRODUCER_REGISTERS = gl.constexpr(24)

# Cosine and sine of position $2 times the phase whose upper and lower words are $3 and $4: the top
# 32 bits of the product, as a signed number of 2^-32 turns, times 2π / 2^32.
COS_SIN = gl.constexpr("""{
.reg .b32 turn;
.reg .f32 angle;
mul.hi.u32 turn, $2, $4;
mad.lo.s32 turn, $2, $3, turn;
cvt.rn.f32.s32 angle, turn;
mul.f32 angle, angle, 0f30C90FDB;
cos.approx.ftz.f32 $0, angle;
sin.approx.ftz.f32 $1, angle;
}""")


def project_and_rotate(
    x: Tensor,
    weight: Tensor,
    phases: Tensor,
    seq_len: int,
    n_heads: int,
    n_kv_heads: int,
    interleaved: bool,
    factor: float,
) -> Tensor:
    """x · weightᵀ (T, N), its columns of q and k rotated by the positions 0 ... seq_len - 1.

    For arguments that `can_project` (projection.py) accepts.

    Args:
        x: bfloat16 (T, C), whole sequences one after another.
        weight: bfloat16 (N, C): heads of q, then of k, then of v.
        phases: int64 (32,), dense.
        seq_len: tokens of a sequence.
        n_heads, n_kv_heads: H and H_kv.
        interleaved, factor: as `rope_triton`'s interleaved and attention_factor.
    """
    x, weight = _for_tma(x), _for_tma(weight)
    (n_tokens, depth), width = x.shape, weight.shape[0]
    out = x.new_empty(n_tokens, width)
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    step, head = [ROWS.value, DEPTH.value], [HEAD_DIM.value, HEAD_DIM.value]
    descriptors = [
        TensorDescriptor.from_tensor(tensor, block, layout)
        for tensor, block in ((x, step), (weight, step), (out, head))
    ]
    assert depth >= LATE.value * DEPTH.value  # or a program with one tile would wait for ever
    n_columns = width // COLUMNS.value
    n_tiles = triton.cdiv(n_tokens, 2 * ROWS.value) * n_columns
    rotated = (n_heads + n_kv_heads) * HEAD_DIM.value
    sizes = (n_tiles, n_columns, depth // DEPTH.value, seq_len, rotated)
    programs = min(n_tiles, _multiprocessors(x.device))
    with torch.cuda.device(x.device):
        projection_kernel[(programs,)](
            *descriptors, phases, *sizes, float(factor), interleaved, num_warps=4
        )
    return out


def _for_tma(x: Tensor) -> Tensor:
    """x, or a copy that is dense and begins where TMA can read."""
    flat = x.reshape(-1)
    return (flat if flat.data_ptr() % 16 == 0 else flat.clone()).view(x.shape)


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@gluon.jit(do_not_specialize=["n_tiles", "n_columns", "n_steps", "seq_len", "rotated"])
def projection_kernel(
    x_desc,
    weight_desc,
    out_desc,
    phases_ptr,
    n_tiles,
    n_columns,  # tiles side by side
    n_steps,  # of a tile
    seq_len,
    rotated,  # how many columns of out
    factor,
    INTERLEAVED: gl.constexpr,
):
    """Make the rings and send the warps into their roles; see the head of this file."""
    gl.static_assert(LATE > 0 and LATE < STAGES)
    x_rings = (_ring(x_desc, 1), _ring(x_desc, 1))
    weight_ring = _ring(weight_desc, 2)
    outputs = (_buffers(out_desc, 2), _buffers(out_desc, 2))
    fence_async_shared()
    sizes = (n_tiles, n_columns, n_steps)
    rotation = (phases_ptr, seq_len, rotated, factor)
    gl.warp_specialize(
        [
            (_consume, (x_rings, weight_ring, outputs, out_desc, sizes, rotation, 0, INTERLEAVED)),
            (_consume, (x_rings, weight_ring, outputs, out_desc, sizes, rotation, 1, INTERLEAVED)),
            (_produce, (x_desc, x_rings[0], sizes, 0)),
            (_produce, (x_desc, x_rings[1], sizes, 1)),
            (_produce, (weight_desc, weight_ring, sizes, None)),
        ],
        [4, 1, 1, 1],  # warps of all but the first
        [CONSUMER_REGISTERS, PRODUCER_REGISTERS, PRODUCER_REGISTERS, PRODUCER_REGISTERS],
    )


@gluon.jit
def _buffers(desc, n: gl.constexpr):
    """Shared memory for n blocks of a descriptor."""
    shape: gl.constexpr = [n, desc.block_type.shape[0], desc.block_type.shape[1]]
    return gl.allocate_shared_memory(gl.bfloat16, shape, desc.layout)


@gluon.jit
def _ring(desc, READERS: gl.constexpr):
    """STAGES buffers, and the barriers full and empty of each."""
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=READERS)
    return _buffers(desc, STAGES), full, empty


@gluon.jit
def _produce(desc, ring, sizes, CONSUMER: gl.constexpr):
    """One warp: keep a ring filled with a consumer's rows of x; with those of the weight: None."""
    buffers, full, empty = ring
    n_tiles, n_columns, n_steps = sizes
    at = 0  # step, over all tiles
    for tile in range(gl.program_id(0), n_tiles, gl.num_programs(0)):
        if CONSUMER is None:
            row = tile % n_columns * COLUMNS
        else:
            row = (tile // n_columns * 2 + CONSUMER) * ROWS
        for step in range(n_steps):
            stage = at % STAGES
            mbarrier.wait(empty.index(stage), ((at // STAGES) & 1) ^ 1)
            mbarrier.expect(full.index(stage), desc.block_type.nbytes)
            tma.async_copy_global_to_shared(
                desc, [row, step * DEPTH], full.index(stage), buffers.index(stage)
            )
            at += 1


@gluon.jit
def _consume(
    x_rings,
    weight_ring,
    outputs,
    out_desc,
    sizes,
    rotation,
    CONSUMER: gl.constexpr,
    INTERLEAVED: gl.constexpr,
):
    """One warpgroup: multiply its rows of every tile, rotate them, and store them."""
    x_buffers, x_full, x_empty = x_rings[CONSUMER]
    w_buffers, w_full, w_empty = weight_ring
    n_tiles, n_columns, n_steps = sizes
    rotated = rotation[2]
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16])
    acc = gl.zeros((ROWS, COLUMNS), gl.float32, layout)
    if CONSUMER == 1:
        mbarrier.wait(x_rings[0][2].index(LATE - 1), 0)
    at = 0
    for tile in range(gl.program_id(0), n_tiles, gl.num_programs(0)):
        for step in range(n_steps):
            stage = at % STAGES
            parity = (at // STAGES) & 1
            mbarrier.wait(x_full.index(stage), parity)
            mbarrier.wait(w_full.index(stage), parity)
            w = w_buffers.index(stage).permute((1, 0))
            acc = warpgroup_mma(x_buffers.index(stage), w, acc, use_acc=step != 0, is_async=True)
            acc = warpgroup_mma_wait(1, deps=(acc,))
            # The step before has been read: its stage may be filled again.
            before = (at + STAGES - 1) % STAGES
            mbarrier.arrive(x_empty.index(before), count=1, pred=step > 0)
            mbarrier.arrive(w_empty.index(before), count=1, pred=step > 0)
            at += 1
        acc = warpgroup_mma_wait(0, deps=(acc,))
        before = (at + STAGES - 1) % STAGES
        mbarrier.arrive(x_empty.index(before), count=1)
        mbarrier.arrive(w_empty.index(before), count=1)

        row = (tile // n_columns * 2 + CONSUMER) * ROWS
        column = tile % n_columns * COLUMNS
        if column < rotated:
            _finish(acc, outputs[CONSUMER], out_desc, row, column, rotation, True, INTERLEAVED)
        else:
            _finish(acc, outputs[CONSUMER], out_desc, row, column, rotation, False, INTERLEAVED)
    tma.store_wait(0)


@gluon.jit
def _finish(
    acc, buffers, desc, row, column, rotation, ROTATE: gl.constexpr, INTERLEAVED: gl.constexpr
):
    """Rotate acc (128, 128), round it and store it: 64 rows of a head at a time.

    Half of the rows at a time, so that fewer cosines and sines are alive at once; two buffers, so
    that one is filled while TMA still reads the other.
    """
    halves = acc.reshape((2, ROWS // 2, COLUMNS)).permute((1, 2, 0)).split()
    for half in gl.static_range(2):
        heads = _halves(halves[half])
        top = row + half * (ROWS // 2)
        if ROTATE:
            first, _ = _pairs(heads[0], INTERLEAVED)
            cos, sin = _cos_sin(top, rotation, first)
        for i in gl.static_range(2):
            y = heads[i]
            if ROTATE:
                y = _turn(y, cos, sin, INTERLEAVED)
            tma.store_wait(1)
            buffers.index(i).store(y.to(gl.bfloat16))
            fence_async_shared()
            tma.async_copy_shared_to_global(desc, [top, column + HEAD_DIM * i], buffers.index(i))


@gluon.jit
def _cos_sin(row, rotation, like):
    """Cosine and sine of the rows from `row` on, spread over threads as `like` (R, 32)."""
    phases_ptr, seq_len, _, factor = rotation
    layout: gl.constexpr = like.type.layout
    position = (row + gl.arange(0, like.shape[0], layout=gl.SliceLayout(1, layout))) % seq_len
    pair = gl.arange(0, like.shape[1], layout=gl.SliceLayout(0, layout))
    phase = gl.load(phases_ptr + pair)
    upper, lower = (phase >> 32).to(gl.int32)[None, :], phase.to(gl.int32)[None, :]
    position, upper = gl.broadcast(position[:, None], upper)
    position, lower = gl.broadcast(position, lower)
    cos, sin = gl.inline_asm_elementwise(
        COS_SIN,
        "=f,=f,r,r,r",
        [position, upper, lower],
        dtype=(gl.float32, gl.float32),
        is_pure=True,
        pack=1,
    )
    return cos * factor, sin * factor


@gluon.jit
def _turn(x, cos, sin, INTERLEAVED: gl.constexpr):
    """Rotate the pairs of one head (R, 64)."""
    a, b = _pairs(x, INTERLEAVED)
    cos, sin = gl.convert_layout(cos, a.type.layout), gl.convert_layout(sin, a.type.layout)
    y = gl.join(a * cos - b * sin, a * sin + b * cos)  # (R, 32, 2)
    if not INTERLEAVED:
        y = y.permute((0, 2, 1))
    return gl.convert_layout(y.reshape(x.shape), x.type.layout)


@gluon.jit
def _pairs(x, INTERLEAVED: gl.constexpr):
    """First and second members of a head's pairs: (R, 64) -> two (R, 32)."""
    if INTERLEAVED:
        return x.reshape((x.shape[0], x.shape[1] // 2, 2)).split()
    else:
        return _halves(x)


@gluon.jit
def _halves(x):
    """(R, 2n) -> left and right columns (R, n), both held by the same threads."""
    return x.reshape((x.shape[0], 2, x.shape[1] // 2)).permute((0, 2, 1)).split()
