"""The fused kernel as compiled for a GPU, against PyTorch's blocks and pairs one by one."""

from functools import partial

import pytest
import torch

import interval_oracle
import model.fused_attention
from kernels import interval_attention
from methods.bend import bend, rotated
from methods.bent_attention import bent_attention
from methods.maps import DualChunk, LeakyReRope, MeanReRope, ReRope, SelfExtend, Sinks, Window
from model import RoPEAttention
from model.fused_attention import window_attention
from model.positions import alibi_slopes
from small_models import small

pytestmark = pytest.mark.gpu

MAPS = [
    ReRope(256),
    MeanReRope(256, 511),
    LeakyReRope(256, 15),
    SelfExtend(19, 128),
    DualChunk(384, 64),
    Window(512),
    Window(1),
    Sinks(4, 508),
]
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.float32: 2e-5}


def normal(*shape, dtype=torch.bfloat16, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(shape, dtype=dtype, device="cuda", generator=generator)


def heads(seq_len, h=4, hk=2, d=64, dtype=torch.bfloat16, batch=1):
    sizes = (h, hk, hk)
    return [normal(batch, seq_len, n, d, dtype=dtype, seed=i) for i, n in enumerate(sizes)]


def rotation(d):
    return partial(rotated, RoPEAttention(4 * d, 4, causal=True).cuda())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("seq_len", [1, 127, 1000, 4096])
@pytest.mark.parametrize("position_map", MAPS, ids=str)
@torch.no_grad()
def test_each_map_by_the_kernel_is_that_map_in_blocks(position_map, seq_len, dtype):
    q, k, v = heads(seq_len, dtype=dtype)
    y = bent_attention(2 * q, k, v, position_map, rotation(64), fused=True)
    expected = bent_attention(2 * q, k, v, position_map, rotation(64))
    torch.testing.assert_close(y, expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("position_map", MAPS, ids=str)
@pytest.mark.parametrize("new", [1, 5, 300])
@torch.no_grad()
def test_new_tokens_after_a_past_are_the_last_rows_of_the_whole(position_map, new):
    q, k, v = heads(1500)
    whole = bent_attention(q, k, v, position_map, rotation(64), fused=True)
    last = bent_attention(q[:, -new:], k, v, position_map, rotation(64), fused=True)
    torch.testing.assert_close(last, whole[:, -new:], rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("d", "dtype"),
    [(d, torch.bfloat16) for d in (8, 16, 32, 48, 80, 128, 192, 256)]
    + [(64, torch.float16), (128, torch.float32), (256, torch.float32)],
)
@torch.no_grad()
def test_every_width_of_heads(d, dtype):
    q, k, v = heads(300, h=6, hk=3, d=d, dtype=dtype, batch=2)
    i = torch.arange(300, device="cuda")
    low = torch.stack((i.clamp(min=100) - 100, torch.zeros_like(i))).int()
    high = torch.stack((i + 1, i.clamp(min=100) - 100)).int()
    y = interval_attention((q, 2 * q), (k, k), v, low, high)
    expected = interval_oracle.attention((q, 2 * q), (k, k), v, low, high)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("past", [0, 700])
@pytest.mark.parametrize("window", [None, 200])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@torch.no_grad()
def test_alibi_in_a_window_or_none(dtype, window, past):
    q, k, v = heads(1000, dtype=dtype)
    q, slopes = q[:, past:], alibi_slopes(4, "cuda")
    y = window_attention(q, k, v, window, slopes=slopes)
    i = torch.arange(past, 1000, device="cuda")
    low, high = (i + 1 - (window or 1000)).clamp(min=0), i + 1
    expected = interval_oracle.attention([q], [k], v, low[None], high[None], slopes)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("options", "position_map"),
    [
        ({}, LeakyReRope(8, 4)),
        ({}, MeanReRope(8, 15)),
        ({}, Sinks(4, 8)),
        ({"window": 7, "pattern": ["window-nope", "full"]}, None),
        ({"position": "alibi"}, None),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_model_on_the_gpu_takes_the_kernel_through_its_cache_too(
    options, position_map, monkeypatch
):
    net, tokens = small(**options).cuda(), torch.randint(32, (2, 200)).cuda()
    other = small(**options, backend="pytorch").cuda()
    for either in (net, other):
        bend(either, position_map)
    taken, can_fuse = [], model.fused_attention.can_fuse
    monkeypatch.setattr(
        model.fused_attention, "can_fuse", lambda *x: taken.append(can_fuse(*x)) or taken[-1]
    )
    by_kernel, cache = net(tokens), net.new_cache(2, 200)
    parts = [net(part, cache=cache) for part in tokens.split([150] + [1] * 50, dim=1)]
    assert taken and all(taken)
    taken.clear()
    plain = other(tokens)
    assert not taken
    scale = plain.abs().max().item()
    torch.testing.assert_close(by_kernel, plain, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(torch.cat(parts, dim=1), plain, rtol=0, atol=1e-4 * scale)


def test_under_autocast_with_a_cache_of_float32_it_runs_in_16_bits():
    net, tokens = small(position="alibi").cuda(), torch.randint(32, (1, 40)).cuda()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        cache = net.new_cache(1, 40)
        logits = torch.cat([net(part, cache=cache) for part in tokens.split(20, dim=1)], dim=1)
        expected = net(tokens)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.1 * expected.abs().max().item())


def test_where_a_gradient_is_wanted_there_is_one():
    net, tokens = small().cuda(), torch.randint(32, (1, 40)).cuda()
    bend(net, ReRope(8))
    net(tokens).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    with torch.inference_mode():  # and what this keeps is no obstacle later
        net(tokens)
    net(tokens).square().mean().backward()


@pytest.mark.parametrize("position_map", [ReRope(256), DualChunk(384, 64)], ids=str)
@torch.no_grad()
def test_memory_grows_linearly(position_map):
    peaks = []
    for seq_len in (8192, 16384, 32768):
        q, k, v = heads(seq_len)
        bent_attention(q, k, v, position_map, rotation(64), fused=True)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        bent_attention(q, k, v, position_map, rotation(64), fused=True)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 2.2 * peaks[0] and peaks[2] < 2.2 * peaks[1]
    assert peaks[2] < 20 * q.nbytes  # the scores would take 512 times q's
