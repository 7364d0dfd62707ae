"""The fused kernel, in Triton's interpreter, against every pair for itself in float64."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

import interval_oracle
import model.fused_attention
from compiled import compiled_for_a_gpu
from kernels import can_attend_to_intervals, interval_attention
from maps_oracle import MAPS, MASKS, attention, pairwise
from methods.bend import bend, rotated
from methods.bent_attention import bent_attention, key_bounds
from methods.maps import DualChunk, LeakyReRope, MeanReRope, Window
from model.fused_attention import can_fuse, window_attention, window_bounds
from small_models import small

pytest.importorskip("triton")


def normal(*shape, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, **options)


def heads(passes, seq_len, n_keys, h=2, hk=1, d=16, batch=1):
    q = [2 * normal(batch, seq_len, h, d, seed=i) for i in range(passes)]
    k = [2 * normal(batch, n_keys, hk, d, seed=10 + i) for i in range(passes)]
    return q, k, normal(batch, n_keys, hk, d, seed=20)


def bounds(passes, seq_len, n_keys, seed):
    """Random ones that do not overlap: passes one after the other, gaps and empty rows included."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2 * passes, seq_len)
    ends = torch.randint(0, n_keys + 1, shape, generator=generator).sort(dim=1).values
    ends = ends.sort(dim=0).values.int()  # of sorted rows each column sorted: still sorted rows
    return ends[0::2], ends[1::2]


# --- the kernel ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passes", "seq_len", "n_keys"), [(1, 70, 70), (2, 33, 90), (3, 65, 50), (3, 1, 64), (2, 64, 1)]
)
def test_any_intervals_equal_pairs_one_by_one(passes, seq_len, n_keys):
    tensors = heads(passes, seq_len, n_keys)
    for seed in range(2):
        low, high = bounds(passes, seq_len, n_keys, seed)
        y = interval_attention(*tensors, low, high)
        expected = interval_oracle.attention(*tensors, low, high)
        torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("d", "batch"), [(12, 2), (64, 1)])
def test_heads_of_any_width_that_share_keys_in_any_layout(d, batch):
    q, k, v = heads(2, 40, 40, h=4, hk=2, d=d, batch=batch)
    q = [x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0) for x in q]
    v = torch.stack((v, v + 1), dim=2).flatten(1, 2)[:, ::2]
    low, high = bounds(2, 40, 40, 0)
    y = interval_attention(q, k, v, low, high)
    expected = interval_oracle.attention(q, k, v, low, high)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5)


def test_stacked_passes_of_one_tensor_need_no_copy():
    q, (k, _), v = heads(2, 20, 20)
    low, high = bounds(2, 20, 20, 1)
    shared = k.expand(2, *k.shape)
    y = interval_attention(torch.stack(q), shared, v, low, high)
    assert torch.equal(y, interval_attention(q, (k, k), v, low, high))


def test_a_query_without_keys_gives_zeros_and_keys_outside_have_no_influence():
    q, k, v = heads(2, 50, 60)
    low = torch.stack((torch.arange(50) // 2, torch.full((50,), 40))).int()
    high = torch.stack((torch.arange(50) // 2 + 3, torch.full((50,), 45))).int()
    low[:, :5], high[:, :5] = 0, 0
    y = interval_attention(q, k, v, low, high)
    assert (y[:, :5] == 0).all() and (y[:, 5:] != 0).all()
    for x in (*k, v):
        x[:, 45:] = torch.nan  # a product with a weight of zero would spread it
    assert torch.equal(interval_attention(q, k, v, low, high), y)
    v[:, 44] += 1
    assert (interval_attention(q, k, v, low, high) != y)[:, 5:].any(-1).all()


def test_large_scores_and_their_differences_survive():
    q, k, v = heads(1, 40, 40)
    q = [200 * q[0]]  # scores of thousands: exp of them is infinite, of differences mostly 0
    low, high = torch.zeros(1, 40).int(), torch.arange(1, 41)[None].int()
    y = interval_attention(q, k, v, low, high)
    expected = interval_oracle.attention(q, k, v, low, high)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=2e-3)
    assert y.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_are_rounded_once_here(dtype):
    q, k, v = heads(1, 30, 30)
    q, k, v = [q[0].to(dtype)], [k[0].to(dtype)], v.to(dtype)
    low, high = torch.zeros(1, 30).int(), torch.arange(1, 31)[None].int()
    y = interval_attention(q, k, v, low, high)
    expected = interval_oracle.attention(q, k, v, low, high).to(dtype)
    assert y.dtype == dtype and (y != expected).float().mean() < 0.01


BAD = [
    ({"k": [normal(1, 6, 1, 16)]}, "2 passes of q and 1 of k: must be as many, from 1 to 3"),
    ({"q": [], "k": []}, "0 passes of q and 0 of k"),
    ({"v": normal(1, 6, 1, 16).double()}, "v is torch.float64: must be float32, bfloat16"),
    ({"k": [normal(1, 6, 1, 16).half()] * 2}, "k is torch.float16 on cpu: must be as v is"),
    ({"k": [normal(1, 7, 1, 16)] * 2}, r"k has shape \(1, 7, 1, 16\): must be \(1, 6, 1, 16\)"),
    ({"q": [normal(2, 5, 2, 16)] * 2}, "batch and head_dim must agree"),
    ({"q": [normal(1, 5, 3, 16)] * 2, "k": [normal(1, 6, 2, 16)] * 2, "v": normal(1, 6, 2, 16)},
     "3 heads of q and 2 of k"),
    ({"low": torch.zeros(2, 5)}, r"low is torch.float32 \(2, 5\) on cpu: must be int32 \(2, 5\)"),
    ({"high": torch.zeros(5).int()}, r"high is torch.int32 \(5,\)"),
    ({"slopes": torch.ones(2)}, "slopes with 2 passes: must be with one"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_arguments(changes, message):
    q, k, v = heads(2, 5, 6)
    arguments = {"q": q, "k": k, "v": v, "low": torch.zeros(2, 5).int()}
    arguments |= {"high": torch.ones(2, 5).int()} | changes
    with pytest.raises(ValueError, match=message):
        interval_attention(**arguments)


def test_wide_heads_slopes_of_another_shape_and_gradients_are_refused():
    wide, low, high = normal(1, 2, 1, 512), torch.zeros(1, 2).int(), torch.ones(1, 2).int()
    with pytest.raises(ValueError, match="head_dim=512: must be from 1 to 256"):
        interval_attention([wide], [wide], wide, low, high)
    x = wide[..., :8]
    with pytest.raises(ValueError, match=r"slopes is torch.float32 \(2,\)"):
        interval_attention([x], [x], x, low, high, slopes=torch.ones(2))
    x = x.clone().requires_grad_()
    with pytest.raises(ValueError, match=r"has no gradient; call it under torch\.no_grad"):
        interval_attention([x], [x], x, low, high)
    assert can_attend_to_intervals(256, torch.bfloat16)
    assert not can_attend_to_intervals(257, torch.bfloat16)
    assert not can_attend_to_intervals(64, torch.float64)


@pytest.mark.parametrize(
    ("data", "passes", "seq_len", "instruction"),
    [
        # both on tensor cores
        pytest.param("bf16", 2, 128, "wgmma.mma_async", marks=pytest.mark.slow),
        ("bf16", 1, 1, "mma.sync"),
        pytest.param("fp32", 2, 128, "fma.rn.f32", marks=pytest.mark.slow),
    ],
)
def test_it_compiles_for_a_gpu_on_a_machine_without_one(
    launches,
    data,
    passes,
    seq_len,
    instruction,
):
    """In the tiles that a GPU would get."""
    from kernels.attention.triton_intervals import tiling

    low, high = bounds(passes, 1, 1, 0)
    slopes = torch.ones(2) if passes == 1 else None
    interval_attention(*heads(passes, 1, 1, d=64), low, high, slopes=slopes)
    ((launch, tensors),) = launches
    tiles = tiling(seq_len, 64, 4 if data == "fp32" else 2, cpu=False)
    launch.numbers = (*launch.numbers[:-3], tiles.rows, tiles.keys, 64)
    launch.options |= {"num_warps": tiles.warps, "num_stages": tiles.stages}
    ptx = compiled_for_a_gpu(launch, tensors, data)
    assert ".target sm_90" in ptx and instruction in ptx


# --- under position maps, and in the model ---------------------------------------------------


@pytest.mark.parametrize("position_map", MAPS + MASKS, ids=str)
def test_bent_attention_equals_every_pair_rotated_for_itself(position_map, monkeypatch):
    module, x = attention(n_kv_heads=2), 4 * normal(1, 50, 32).double()
    expected = pairwise(module, x, position_map)
    module, x = module.float(), x.float()
    q, k, v = module._heads(x)
    with torch.no_grad():
        y = bent_attention(q, k, v, position_map, partial(rotated, module), fused=True)
    torch.testing.assert_close(module.out(y.flatten(-2)).double(), expected, rtol=0, atol=2e-5)


@pytest.fixture
def fused_calls(monkeypatch):
    """As on a GPU: whatever the kernel can take goes to it. Says what was asked."""
    calls = []

    def asked(*tensors):
        calls.append(tensors)
        return True

    monkeypatch.setattr(model.fused_attention, "can_fuse", asked)
    return calls


@pytest.mark.parametrize(
    ("options", "position_map"),
    [
        pytest.param({}, LeakyReRope(8, 4), marks=pytest.mark.slow),
        pytest.param({}, MeanReRope(8, 15), marks=pytest.mark.slow),
        ({}, DualChunk(12, 4)),
        ({"window": 7, "pattern": ["window-nope", "full"]}, None),
        ({"position": "alibi"}, None),
        ({"position": "alibi", "window": 9}, None),
    ],
    ids=str,
)
def test_a_model_by_the_kernel_is_the_model_by_pytorch(options, position_map, fused_calls):
    net, tokens = small(**options), torch.randint(32, (1, 40))
    other = small(**options, backend="pytorch")
    for either in (net, other):
        bend(either, position_map)
    with torch.no_grad():
        by_kernel, cache = net(tokens), net.new_cache(1, 40)
        parts = [net(part, cache=cache) for part in tokens.split([33, 1, 6], dim=1)]
        assert fused_calls
        fused_calls.clear()
        plain = other(tokens)
        assert not fused_calls
    scale = plain.abs().max().item()
    torch.testing.assert_close(by_kernel, plain, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(torch.cat(parts, dim=1), plain, rtol=0, atol=1e-5 * scale)


def test_positions_of_ones_own_and_masks_stay_with_pytorch(fused_calls):
    net, tokens = small(position="alibi"), torch.randint(32, (1, 12))
    positions = torch.arange(12).flip(0) * 3
    with torch.no_grad():
        cache = net.new_cache(1, 12)
        parts = [net(tokens[:, :5], positions[:5], cache), net(tokens[:, 5:], positions[5:], cache)]
        torch.testing.assert_close(torch.cat(parts, 1), net(tokens, positions))
        counted = net.new_cache(1, 12)  # tokens that are counted, and then some that are not
        mixed = [net(tokens[:, :5], cache=counted), net(tokens[:, 5:], positions[5:], counted)]
        expected = net(tokens, torch.cat((torch.arange(5), positions[5:])))
        torch.testing.assert_close(torch.cat(mixed, 1), expected, rtol=1e-4, atol=1e-4)
        attend = net.blocks[0].attention
        x, mask = normal(1, 12, 32), torch.ones(12, 12).tril(-2)
        assert (attend(x, mask)[:, :2] == 0).all()


def test_the_kernel_is_for_a_gpu_without_gradients_alone():
    q = normal(1, 4, 2, 16)
    assert not can_fuse(q, q, q)
    with torch.device("meta"):
        assert not can_fuse(*[torch.empty(1, 4, 2, 16)] * 3)


def test_the_kernel_is_not_for_transforms_that_it_knows_nothing_of():
    q = SimpleNamespace(is_cuda=True, requires_grad=False, shape=(1, 4, 2, 16), dtype=torch.float32)
    assert can_fuse(q, q, q)
    bounds = torch.zeros(1, 4, dtype=torch.int32), torch.ones(1, 4, dtype=torch.int32)
    x = normal(1, 4, 2, 16)
    with torch.autograd.forward_ad.dual_level():
        assert not can_fuse(q, q, q)
        with pytest.raises(ValueError, match="has no rule"):
            interval_attention((x,), (x,), x, *bounds)
    asked = []
    torch.func.vmap(lambda x: asked.append(can_fuse(q, q, q)) or x)(torch.ones(2))
    assert asked == [False]


def test_dropout_stays_with_pytorch_without_gradients_too(fused_calls):
    net, tokens = small(position="alibi", window=9, dropout=0.5), torch.randint(32, (1, 20))
    with torch.no_grad():
        net(tokens)
        assert len(fused_calls) == 2  # layers
        net.blocks.train()  # the embedding's own dropout is not what differs
        assert not torch.equal(net(tokens), net(tokens))
    assert len(fused_calls) == 2


def test_a_window_counts_on_from_the_past_and_alibi_with_it():
    q, (k, *_), v = heads(1, 20, 53)
    slopes = torch.tensor([0.5, 0.03])
    y = window_attention(q[0], k, v, 9, slopes=slopes)
    i = torch.arange(33, 53)
    low, high = (i - 8)[None], (i + 1)[None]
    expected = interval_oracle.attention(q, [k], v, low, high, slopes)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5)
    for bounds in (window_bounds(9, 33, 20, i.device), key_bounds(Window(9), 33, 20, i.device)):
        assert [x.tolist() for x in bounds] == [low.tolist(), high.tolist()]
