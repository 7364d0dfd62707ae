"""Log-n score scaling against attention written out in float64, and through the KV cache."""

import math

import pytest
import torch

from model import RoPEAttention, rope_frequencies
from model.sharpening import log_n_scaled
from small_models import small_model

TRAINED = 8


def attention(**options):
    torch.manual_seed(0)
    return RoPEAttention(32, 4, 0.0, causal=True, backend="pytorch", **options).double()


def by_hand(module, x, train_length):
    """One query, head and key at a time, from the formula."""
    b, s, _ = x.shape
    h, hk, d = module.n_heads, module.n_kv_heads, module.head_dim
    q, k, v = module.qkv(x).split((h * d, hk * d, hk * d), dim=-1)
    q, k, v = q.view(b, s, h, d), k.view(b, s, hk, d), v.view(b, s, hk, d)
    inv_freq, _ = rope_frequencies(d)
    out = torch.zeros(b, s, h, d, dtype=torch.float64)
    turns = torch.polar(torch.ones(s, d // 2).double(), torch.outer(torch.arange(s), inv_freq))
    q, k = (torch.view_as_complex(t.unflatten(-1, (-1, 2)).contiguous()) for t in (q, k))
    q, k = q * turns[:, None], k * turns[:, None]
    for i in range(s):
        scale = max(1.0, math.log(i + 1) / math.log(train_length))
        for head in range(h):
            of = head * hk // h
            dots = (q[:, i, None, head] * k[:, : i + 1, of].conj()).sum(-1).real  # (B, i + 1)
            weights = (scale * dots / math.sqrt(d)).softmax(-1)
            out[:, i, head] = (weights[..., None] * v[:, : i + 1, of]).sum(1)
    return module.out(out.flatten(-2))


@pytest.mark.parametrize("n_kv_heads", [4, 2])
def test_equals_the_formula_one_query_at_a_time(n_kv_heads):
    module, x = attention(n_kv_heads=n_kv_heads), torch.randn(2, 40, 32).double() * 4
    module.set_score_scaling(TRAINED)
    expected = by_hand(module, x, TRAINED)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
    module.set_score_scaling(None)
    assert (module(x) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("positions", [None, torch.arange(3, 43), torch.arange(80).view(2, 40) - 5])
def test_queries_keep_their_bits_up_to_the_training_length(dtype, positions):
    q = torch.randn(2, 40, 3, 4).to(dtype)
    scaled = log_n_scaled(q, positions, TRAINED)
    assert scaled.dtype == dtype and scaled.shape == q.shape
    places = (torch.arange(40) if positions is None else positions).expand(2, 40)
    assert torch.equal(scaled[places < TRAINED], q[places < TRAINED])
    beyond = places >= TRAINED
    expected = q.double() * (places + 1).clamp(min=1).double().log()[..., None, None]
    tolerance = {torch.float64: 1e-15, torch.float32: 1e-6, torch.bfloat16: 5e-3}[dtype]
    torch.testing.assert_close(
        scaled[beyond].double(), (expected / math.log(TRAINED))[beyond], rtol=tolerance, atol=0
    )


def test_off_is_exactly_the_model_and_so_is_a_short_input():
    net, tokens = small_model(), torch.randint(0, 32, (2, 30))
    before = net(tokens)
    net.set_score_scaling(TRAINED)
    scaled = net(tokens)
    assert torch.equal(net(tokens[:, :TRAINED]), small_model()(tokens[:, :TRAINED]))
    assert (scaled - before).abs().max() > 1e-3
    net.set_score_scaling(None)
    assert torch.equal(net(tokens), before)


@pytest.mark.parametrize("position", ["rope", "nope"])
@pytest.mark.parametrize("step", [1, 7])
def test_decoding_through_the_cache_is_the_full_pass(position, step):
    net, tokens = small_model(position=position, n_kv_heads=2), torch.randint(0, 32, (2, 30))
    net.set_score_scaling(TRAINED)
    with torch.no_grad():
        full = net(tokens)
        cache = net.new_cache(2, 30)
        parts = [net(part, cache=cache) for part in tokens.split(step, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-10, atol=1e-10)


def test_it_trains_and_is_no_part_of_a_checkpoint():
    net = small_model()
    keys = list(net.state_dict())
    net.set_score_scaling(TRAINED)
    net(torch.randint(0, 32, (1, 20))).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    assert list(net.state_dict()) == keys


@pytest.mark.parametrize("train_length", [1, 0, -4, 2.5, True, "8"])
def test_a_length_without_a_logarithm_to_divide_by_is_refused(train_length):
    with pytest.raises(ValueError, match=f"train_length={train_length}: must be null or an int"):
        small_model().set_score_scaling(train_length)
