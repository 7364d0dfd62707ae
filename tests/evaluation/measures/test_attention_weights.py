"""Attention weights of chosen queries, and what is measured of them."""

import math

import numpy as np
import pytest
import torch

from evaluation.measures.attention_distance import measure_attention
from methods.bend import bend
from methods.maps import (
    DualChunk,
    LeakyReRope,
    MeanReRope,
    ReRope,
    SelfExtend,
    Sinks,
    Window,
    attended,
)
from model import RoPEAttention, Transformer, TransformerConfig, rope_frequencies
from model.positions import alibi_slopes

S, D_MODEL, H, HK = 40, 32, 4, 2
ROWS = torch.tensor([0, 1, 17, 30, 39])
KINDS = {
    "rope": {},
    "halves": {"interleaved": False, "fraction": 0.5},
    "qk-norm": {"qk_norm": True},
    "nope": {"position": "nope"},
    "alibi": {"position": "alibi"},
    "window": {"window": 7},
    "alibi-window": {"position": "alibi", "window": 7},
    "ssmax": {"ssmax": True},
    "bidirectional": {"causal": False},
    "bidirectional-window": {"causal": False, "window": 7},
}
MAPS = [ReRope(7), LeakyReRope(7, 4), SelfExtend(3, 8), DualChunk(12, 4), Window(7), Sinks(2, 7)]


def attention(causal=True, **options):
    torch.manual_seed(0)
    module = RoPEAttention(
        D_MODEL, H, 0.0, n_kv_heads=HK, causal=causal, backend="pytorch", **options
    )
    return module.double().eval()


def tokens(batch=2):
    return torch.randn(batch, S, D_MODEL, dtype=torch.float64) * 3


def by_definition(module, x, relative=None, log_n=None):
    """Every pair's score for itself, then softmax: (B, H, S, S)."""
    d = module.head_dim
    q, k, _ = module.qkv(x).unflatten(-1, (-1, d)).split((H, HK, HK), dim=2)
    if module.q_norm is not None:
        q, k = module.q_norm(q), module.k_norm(k)
    k = k.repeat_interleave(H // HK, dim=2)
    i, j = torch.arange(S)[:, None], torch.arange(S)[None]
    relative = (i - j).double() if relative is None else relative
    if module.position == "rope":
        scores = rotated_scores(module, q, k, relative)
    else:
        scores = torch.einsum("bihd,bjhd->bhij", q, k)
    scores = scores / math.sqrt(d)
    if module.position == "alibi":
        scores = scores - alibi_slopes(H).double()[:, None, None] * (i - j).abs()
    if log_n is not None:
        scores = scores * ((i + 1).double().log() / math.log(log_n)).clamp(min=1)
    if module.ssmax is not None:
        seen = (i + 1).double().log()
        scores = scores * module.ssmax.scale[:, None, None].double() * seen
    seen = ~relative.isnan() & ((i >= j) if module.causal else True)
    if module.window is not None:
        seen = seen & ((i - j).abs() < module.window)
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)


def rotated_scores(module, q, k, relative):
    width = 2 * len(module.phases)
    inv_freq = rope_frequencies(width)[0]
    angle = relative[..., None] * inv_freq  # (S, S, pairs)
    if module.interleaved:
        a, b = (
            torch.view_as_complex(t[..., :width].unflatten(-1, (-1, 2)).contiguous())
            for t in (q, k)
        )
    else:
        half = width // 2
        a, b = (torch.complex(t[..., :half], t[..., half:width]) for t in (q, k))
    turned = torch.einsum("bihp,bjhp,ijp->bhij", a, b.conj(), torch.polar(angle * 0 + 1, angle))
    return turned.real + torch.einsum("bihd,bjhd->bhij", q[..., width:], k[..., width:])


def output_of(module, x, weights):
    """What the layer makes of the weights (B, H, N, S): (B, N, C)."""
    v = module.qkv(x).unflatten(-1, (-1, module.head_dim))[:, :, -HK:]
    v = v.repeat_interleave(H // HK, dim=2)
    return module.out(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(-2))


def assert_right(module, x, **options):
    weights = module.weights(x, ROWS)
    expected = by_definition(module, x, **options)[:, :, ROWS]
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, H, len(ROWS)).double())
    torch.testing.assert_close(
        output_of(module, x, weights), module(x)[:, ROWS], rtol=1e-6, atol=1e-6
    )
    return weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_definition_and_give_the_layers_output(kind):
    assert_right(attention(**KINDS[kind]), tokens())


@pytest.mark.parametrize("position_map", MAPS, ids=str)
def test_under_a_map(position_map):
    module, x = attention(), tokens()
    plain = module.weights(x, ROWS)
    bend(module, position_map)
    i, j = torch.arange(S)[:, None], torch.arange(S)[None]
    relative = torch.where(attended(position_map, i, j), position_map.relative(i, j), torch.nan)
    bent = assert_right(module, x, relative=relative)
    assert not torch.allclose(plain, bent, atol=1e-3)


def test_under_a_mean_of_rotations_they_give_the_layers_output():
    module, x = attention(), tokens()
    bend(module, MeanReRope(7, 20))
    y = output_of(module, x, module.weights(x, ROWS))
    torch.testing.assert_close(y, module(x)[:, ROWS], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("position_map", [None, ReRope(7)], ids=str)
def test_under_log_n(position_map):
    module, x = attention(), tokens()
    bend(module, position_map)
    module.set_score_scaling(8)
    i, j = torch.arange(S)[:, None], torch.arange(S)[None]
    relative = None if position_map is None else position_map.relative(i, j)
    assert_right(module, x, relative=relative, log_n=8)


def test_weights_of_16_bit_layers_are_float32():
    weights = attention().bfloat16().weights(tokens().bfloat16(), ROWS)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, H, len(ROWS)))


# --- the measure -----------------------------------------------------------------------------

TRAIN_LENGTH, CONTEXT = 16, 64
PASSAGES = np.random.default_rng(0).integers(0, 64, (3, CONTEXT + 1))


def model(**options):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=64, n_layers=2, d_model=D_MODEL, n_heads=H, backend="pytorch", **options
    )
    return Transformer(config).eval()


def measure(network, **options):
    return measure_attention(network, PASSAGES, train_length=TRAIN_LENGTH, **options)["layers"]


def test_equal_weights_lie_half_way_back():
    network = model(position="nope")
    for block in network.blocks:
        torch.nn.init.zeros_(block.attention.qkv.weight)
    rows = np.arange(CONTEXT - CONTEXT // 4, CONTEXT)
    for layer in measure(network):
        assert layer["mean_distance"] == pytest.approx(rows.mean() / 2, rel=1e-5)
        assert layer["entropy"] == pytest.approx(1, abs=1e-5)
        assert layer["first_tokens"] == pytest.approx((4 / (rows + 1)).mean(), rel=1e-5)
        beyond = (rows + 1 - TRAIN_LENGTH) / (rows + 1)  # keys at a distance of 16 or more
        assert layer["beyond_training"] == pytest.approx(beyond.mean(), rel=1e-5)


def test_a_window_looks_no_further_and_a_window_of_one_at_itself():
    for layer in measure(model(window=5)):
        assert 0 < layer["mean_distance"] < 4
        assert layer["beyond_training"] == layer["first_tokens"] == 0
    for layer in measure(model(window=1)):
        assert list(layer.values()) == [0, 0, 0, 0]


def test_layers_of_a_pattern_are_measured_each_as_it_is():
    near, far = measure(model(window=5, pattern=("window", "full-nope")))
    assert near["mean_distance"] < 4 < far["mean_distance"] and far["beyond_training"] > 0.5


@pytest.mark.parametrize("position", ["sinusoidal", "alibi"])
def test_figures_are_those_of_all_weights_of_the_last_quarter(position):
    """From the layers' inputs as the forward pass made them, by another road."""
    network, inputs = model(position=position), []
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.data.mul_(12)
    hook = network.blocks[1].attention_norm.register_forward_hook(
        lambda module, args, output: inputs.append(output)
    )
    measured = measure(network)[1]
    hook.remove()
    every = torch.arange(CONTEXT)
    weights = network.blocks[1].attention.weights(torch.cat(inputs), every)
    weights = weights[:, :, CONTEXT - CONTEXT // 4 :]
    distance = every[CONTEXT - CONTEXT // 4 :, None] - every
    expected = (weights * distance).sum(-1).mean()
    assert measured["mean_distance"] == pytest.approx(float(expected), rel=1e-5)


def test_a_model_that_crops_its_context_is_measured_in_what_it_reads():
    class Cropped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model()

        def forward(self, tokens, logits_to_keep):
            return self.model(tokens[:, -TRAIN_LENGTH:], logits_to_keep=logits_to_keep)

    whole = measure_attention(model(), PASSAGES[:, -TRAIN_LENGTH - 1 :], train_length=TRAIN_LENGTH)
    assert measure(Cropped()) == whole["layers"]


def test_progress_is_told_and_no_hook_stays():
    network, told = model(), []
    before = network(torch.from_numpy(PASSAGES[:, :-1]))
    measure(network, on_forward=told.append)
    assert told == [CONTEXT] * 3
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert torch.equal(network(torch.from_numpy(PASSAGES[:, :-1])), before)


def test_a_text_of_one_token_is_measured_too():
    (layer, _) = measure_attention(model(), PASSAGES[:, :2], train_length=16)["layers"]
    assert layer == {"mean_distance": 0, "beyond_training": 0, "first_tokens": 1, "entropy": 0}
