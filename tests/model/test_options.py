"""Norms, biases, scales and caps: each by its formula, written down once more; and padded rows."""

import math

import pytest
import torch
from torch import Tensor

from model import RoPEAttention, Transformer, TransformerConfig
from model.block import MLP, Block
from model.capped_core import CappedCore
from model.cores import Call

B, S, C = 2, 9, 16
SIZES = {"vocab_size": 19, "n_layers": 2, "d_model": C, "n_heads": 2, "backend": "pytorch"}
BIASES = {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "head_bias": True}


def made(**options: object) -> Transformer:
    """A model in float64 with no parameter at the value that it starts with."""
    torch.manual_seed(0)
    net = Transformer(TransformerConfig(**{**SIZES, **options})).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net


def tokens(batch_size: int = B, seq_len: int = S) -> Tensor:
    return torch.randint(0, 19, (batch_size, seq_len), generator=torch.Generator().manual_seed(1))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    return y * weight + (0 if bias is None else bias)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


# Blocks


@pytest.mark.parametrize("block", ["pre", "post", "sandwich", "parallel", "parallel-shared"])
@pytest.mark.parametrize("norm", [{}, {"norm": "layer"}, {"norm": "layer", "norm_bias": True}])
def test_a_block_is_what_its_table_says(block, norm):
    net = made(block=block, norm_eps=1e-3, **norm)
    one: Block = net.blocks[0]

    def normed(module, x):
        if norm:
            return layer_norm(x, module.weight, module.bias, 1e-3)
        return rms_norm(x, module.weight, 1e-3)

    x = torch.randn(B, S, C, dtype=torch.float64)
    if block == "pre":
        y = x + one.attention(normed(one.attention_norm, x))
        expected = y + one.mlp(normed(one.mlp_norm, y))
    elif block == "post":
        y = x + normed(one.attention_norm, one.attention(x))
        expected = y + normed(one.mlp_norm, one.mlp(y))
    elif block == "sandwich":
        inner = one.attention(normed(one.attention_norm, x))
        y = x + normed(one.attention_post_norm, inner)
        expected = y + normed(one.mlp_post_norm, one.mlp(normed(one.mlp_norm, y)))
    else:
        second = one.mlp_norm if block == "parallel" else one.attention_norm
        attended = one.attention(normed(one.attention_norm, x))
        expected = x + attended + one.mlp(normed(second, x))
    torch.testing.assert_close(one(x), expected, rtol=0, atol=1e-12)
    assert ("bias" in dict(one.attention_norm.named_parameters())) == ("norm_bias" in norm)


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        (
            "geglu",
            lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        (
            "gelu-tanh",
            lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        ("gelu", lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
        ("swiglu", lambda x: x / (1 + torch.exp(-x))),
        ("relu2", lambda x: x.clamp(min=0) ** 2),
    ],
)
def test_an_mlp_is_its_formula(kind, activation):
    mlp: MLP = made(mlp=kind, mlp_hidden=24, mlp_bias=True).blocks[0].mlp
    x = torch.randn(B, S, C, dtype=torch.float64)
    up = x @ mlp.up.weight.T + mlp.up.bias
    gated = kind in ("geglu", "swiglu")
    inner = activation(up[..., :24]) * up[..., 24:] if gated else activation(up)
    expected = inner @ mlp.down.weight.T + mlp.down.bias
    torch.testing.assert_close(mlp(x), expected, rtol=0, atol=1e-12)


# Scales, caps and biases


def test_scales_and_caps_stand_where_they_should():
    """Of the embedding before the blocks, of the logits behind the head, the cap last of all."""
    settings = {"embedding_scale": 3.0, "logit_scale": 0.25, "logit_softcap": 1.5, **BIASES}
    net = made(tied_head=False, norm="layer", norm_bias=True, **settings)
    x = net.embedding(tokens()) * 3.0
    for block in net.blocks:
        x = block(x)
    logits = layer_norm(x, net.norm.weight, net.norm.bias, 1e-6) @ net.head.weight.T + net.head.bias
    expected = 1.5 * torch.tanh(0.25 * logits / 1.5)
    torch.testing.assert_close(net(tokens()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("qk_norm", [False, True, "width", "heads"])
@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_scores_are_normed_scaled_and_capped_as_written(window, qk_norm, norm):
    """One query and head at a time; biases, GQA, and the rotation taken from a layer without."""
    torch.manual_seed(0)
    options = {"n_kv_heads": 2, "window": window, "norm": norm, "norm_eps": 1e-3, "causal": True}
    layer = RoPEAttention(
        *(C, 4, 0.0),
        **options,
        backend="pytorch",
        qk_norm=qk_norm,
        qkv_bias=True,
        out_bias=True,
        attention_scale=0.9,
        attention_softcap=2.0,
    ).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(B, S, C, dtype=torch.float64)
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).split((16, 8, 8), dim=-1)
    q, k, v = (t.unflatten(-1, (-1, 4)) for t in (q, k, v))
    if qk_norm:
        q, k = (
            _head_normed(q, layer.q_norm.weight, norm),
            _head_normed(k, layer.k_norm.weight, norm),
        )
    angle = (
        torch.arange(S, dtype=torch.float64)[:, None] * 10000.0 ** -torch.arange(0, 1, 0.5).double()
    )
    q, k = (_rotated(t, angle) for t in (q, k))
    y = torch.zeros(B, S, 4, 4, dtype=torch.float64)
    for h in range(4):
        for i in range(S):
            first = 0 if window is None else max(0, i - window + 1)
            keys = k[:, first : i + 1, h // 2]  # (B, K, D)
            scores = 2.0 * torch.tanh(0.9 * (keys @ q[:, i, h, :, None])[..., 0] / 2.0)
            weights = scores.softmax(-1)
            y[:, i, h] = (weights[..., None] * v[:, first : i + 1, h // 2]).sum(1)
    expected = y.flatten(-2) @ layer.out.weight.T + layer.out.bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
    rows = layer.weights(x, torch.tensor([S - 1]))  # the last head and query, from the loop
    torch.testing.assert_close(rows[:, 3, 0, -weights.shape[-1] :], weights, rtol=0, atol=1e-10)


def _head_normed(x: Tensor, weight: Tensor, norm: str) -> Tensor:
    y = x.flatten(-2) if weight.ndim == 1 and len(weight) > 4 else x
    one = torch.ones(y.shape[-1], dtype=y.dtype)
    y = layer_norm(y, one, None, 1e-3) if norm == "layer" else rms_norm(y, one, 1e-3)
    return (y * weight).view_as(x)


def _rotated(x: Tensor, angle: Tensor) -> Tensor:
    """(B, S, H, 4) with pairs (0, 1) and (2, 3)."""
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


def test_long_texts_are_capped_in_blocks_with_the_same_gradients(monkeypatch):
    net, x = made(attention_softcap=2.0), tokens()
    loss = net(x).square().mean()
    whole = torch.autograd.grad(loss, [*net.parameters()])
    monkeypatch.setattr("model.capped_core.BLOCK", 4)
    again = net(x).square().mean()
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=0)
    blocks = torch.autograd.grad(again, [*net.parameters()])
    torch.testing.assert_close(blocks, whole, rtol=1e-9, atol=1e-12)


def test_capped_scores_are_not_rounded_by_autocast():
    q, k = torch.randn(2, 1, 9, 2, 4, generator=torch.Generator().manual_seed(0))
    core = CappedCore(causal=True, window=None, cap=2.0)
    values = torch.eye(9)[None, :, None].expand(1, 9, 2, 9)  # what is read are the weights
    plain = core(q, k, values, Call())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = core(q, k, values, Call())
    weights = plain.to(torch.bfloat16)  # once, where they meet the values
    torch.testing.assert_close(rounded.float(), weights.float(), rtol=0, atol=0)


def test_a_theta_of_windows_is_left_alone_by_scalings():
    settings = {"window": 4, "pattern": ["window", "full"], "local_theta": 50.0}
    net, plain = made(**settings), made(**settings | {"local_theta": None})
    window, full = net.attentions()
    assert not torch.equal(window.phases, plain.attentions()[0].phases)
    assert torch.equal(full.phases, plain.attentions()[1].phases)
    before = window.phases.clone(), full.phases.clone()
    net.set_scaling("linear", factor=4.0)
    assert torch.equal(window.phases, before[0])
    assert not torch.equal(full.phases, before[1])


def test_a_new_model_has_no_biases_yet():
    net = Transformer(TransformerConfig(**SIZES, **BIASES, norm="layer", norm_bias=True))
    biases = [value for name, value in net.named_parameters() if name.endswith("bias")]
    norms = [value for name, value in net.named_parameters() if name.endswith("norm.weight")]
    assert len(biases) == 2 * 6 + 2 and not any(value.any() for value in biases)
    assert norms and all((value == 1).all() for value in norms)


# Rows that are filled up on the left, and logits of the last tokens


PADDED = [
    {},
    {"n_kv_heads": 1, "qk_norm": True},
    {"window": 3},
    {"attention_softcap": 2.0},
    {"position": "nope"},
    {"position": "alibi"},
    {"position": "sinusoidal"},
    {"position": "learned", "train_length": 16},
    {"ssmax": True},
    {"pattern": ["window", "full-nope"], "window": 4},
]


@pytest.mark.parametrize("options", PADDED)
@pytest.mark.parametrize("cached", [False, True])
def test_a_padded_row_is_what_it_is_alone(options, cached):
    net, rows = made(**options), tokens(3)
    lengths = [S, S - 4, 1]
    mask = torch.tensor([[0] * (S - n) + [1] * n for n in lengths])
    with torch.no_grad():
        if cached:  # two calls, the second of one token
            cache = net.new_cache(3, S)
            first = net(rows[:, :-1], cache=cache, mask=mask[:, :-1])
            got = torch.cat([first, net(rows[:, -1:], cache=cache, mask=mask)], dim=1)
        else:
            got = net(rows, mask=mask)
        for i, n in enumerate(lengths):
            alone = net(rows[i : i + 1, S - n :])
            torch.testing.assert_close(got[i : i + 1, S - n :], alone, rtol=0, atol=1e-10)
    ones = net(rows, mask=torch.ones_like(mask))
    assert not torch.allclose(ones[1], net(rows, mask=mask)[1], atol=1e-3)  # the mask tells


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"mask: must be \(2, 9\), .*got \(2, 8\)"):
        made()(tokens(), mask=torch.ones(2, 8))


@pytest.mark.parametrize("keep", [1, 4, S])
def test_the_last_logits_are_those_of_all(keep):
    net = made(logit_scale=0.5, logit_softcap=3.0)
    all_of_them = net(tokens())
    last = net(tokens(), logits_to_keep=keep)
    torch.testing.assert_close(last, all_of_them[:, -keep:], rtol=0, atol=1e-12)
