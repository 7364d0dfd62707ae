"""Sliding windows and layer patterns: what a layer may see, and that it sees nothing else."""

import math

import pytest
import torch
from torch import Tensor

from model import RoPEAttention, Transformer, TransformerConfig, window_cores
from model.flops import flops_per_token

VOCAB, S, H, C = 17, 24, 4, 32
SMALL = {"vocab_size": VOCAB, "d_model": C, "n_heads": H, "backend": "pytorch"}
VARIANTS = [
    {"window": 1},
    {"window": 5, "n_kv_heads": 2},
    {"window": 5, "position": "alibi"},
    {"window": 5, "position": "nope", "qk_norm": True},
    {"window": 4, "position": "sinusoidal"},
    {"window": 4, "pattern": ["window", "full-nope"], "n_kv_heads": 1},
    {"window": 6, "pattern": ["window", "window-nope", "full"]},
    {"pattern": ["full", "full-nope"]},
    {"window": 7, "position": "alibi", "pattern": ["full-nope", "window"]},
]


def attention(**kwargs: object) -> RoPEAttention:
    torch.manual_seed(0)
    kwargs = {"dropout": 0.0, "causal": True, "backend": "pytorch", **kwargs}
    return RoPEAttention(C, H, **kwargs).double()


def make(**kwargs: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{"n_layers": 3, **SMALL, **kwargs})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model


def sequence(seq_len: int = S) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, seq_len, C, dtype=torch.float64, generator=generator)


def tokens(batch_size: int = 2, seq_len: int = S) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB, (batch_size, seq_len), generator=generator)


def band(window: int, seq_len: int = S, causal: bool = True) -> Tensor:
    """(S, S) booleans: what a window lets a query see."""
    ahead = torch.arange(seq_len)[:, None] - torch.arange(seq_len)
    return (ahead.abs() < window) & ((ahead >= 0) | (not causal))


@pytest.fixture(params=[512, 6, 1], ids=lambda size: f"blocks of {size}")
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(window_cores, "BLOCK", request.param)
    monkeypatch.setattr(window_cores, "WINDOW_BLOCK", request.param)
    return request.param


# One layer


@pytest.mark.parametrize("position", ["rope", "nope", "alibi"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 2, 7, S - 1])
def test_a_window_is_the_mask_of_its_band(block, window, causal, position):
    kwargs = {"causal": causal, "n_kv_heads": 2, "position": position}
    x = sequence().requires_grad_()
    windowed = attention(window=window, **kwargs)(x)
    masked = attention(**kwargs)(x, band(window, causal=causal))
    torch.testing.assert_close(windowed, masked, rtol=0, atol=1e-12)
    one, other = (torch.autograd.grad(y.square().sum(), x)[0] for y in (windowed, masked))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("position", ["rope", "nope", "alibi"])
@pytest.mark.parametrize("window", [1, 5])
def test_nothing_outside_the_window_has_any_influence(block, window, position):
    """By perturbation and by gradients: exactly none, not a little."""
    module = attention(window=window, position=position)
    x = sequence().requires_grad_()
    y = module(x)
    for s in (0, 9, S - 1):
        changed = x.detach().clone()
        changed[:, s] = 1e6 * changed[:, s].flip(-1)
        moved = (module(changed) - y).abs().amax(dim=(0, 2)) > 0
        seen_by = band(window)[:, s]
        assert torch.equal(moved, seen_by)
    for t in (0, 9, S - 1):
        (gradient,) = torch.autograd.grad(y[:, t].sum(), x, retain_graph=True)
        assert torch.equal((gradient != 0).any(-1).any(0), band(window)[t])


@pytest.mark.parametrize("position", ["rope", "alibi"])
@pytest.mark.parametrize("window", [S, S + 1, 10**6])
def test_a_window_of_the_whole_input_is_none(window, position):
    x = sequence()
    windowed, plain = attention(window=window, position=position), attention(position=position)
    assert torch.equal(windowed(x), plain(x))


def test_windows_join_masks(block):
    x, mask = sequence(), torch.ones(2, 1, 1, S)
    mask[..., 5:12] = 0
    y = attention(window=4)(x, mask)
    expected = attention()(x, mask.bool() & band(4))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    assert (y[:, 8:12] == 0).all() and (y[:, 12:] != 0).all()


def test_plain_layers_keep_the_causal_fast_path(monkeypatch):
    calls = []
    real = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: object, **kwargs: object) -> Tensor:
        calls.append((kwargs.get("is_causal", False), kwargs.get("attn_mask") is None))
        return real(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    for kwargs in ({}, {"position": "nope"}, {"window": S}):
        attention(**kwargs)(sequence())
    assert calls == [(True, True)] * 3


def test_scores_are_made_for_blocks_and_their_windows_alone(monkeypatch):
    shapes = []
    real = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, *args: object, **kwargs: object) -> Tensor:
        shapes.append((q.shape[2], k.shape[2]))
        return real(q, k, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    length, window, size = 1500, 100, window_cores.WINDOW_BLOCK
    attention(window=window)(sequence(length))
    assert sum(queries for queries, _ in shapes) == length
    assert max(queries * keys for queries, keys in shapes) <= size * (size + window - 1)


# Whole models


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pieces", [[S], [11, 9, 4], [1] * S, [6] + [1] * (S - 6)])
def test_cached_outputs_equal_the_full_forward(variant, pieces):
    model, x = make(**variant), tokens()
    with torch.no_grad():
        full, cache = model(x), model.new_cache(2, S)
        logits = torch.cat([model(piece, cache=cache) for piece in x.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(logits, full, rtol=0, atol=1e-10 * full.abs().max().item())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_and_no_token_sees_the_future(variant):
    model, x = make(**variant), tokens()
    logits = model(x)
    logits.square().sum().backward()
    assert all((p.grad != 0).any() and p.grad.isfinite().all() for p in model.parameters())
    changed = x.clone()
    changed[:, 9] = (changed[:, 9] + 1) % VOCAB
    assert torch.equal(model(changed)[:, :9], logits[:, :9])


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_stacked_windows_reach_as_far_as_their_sum(n_layers):
    window = 3
    model, x = make(window=window, n_layers=n_layers), tokens(1)
    changed = x.clone()
    changed[:, 2] = (changed[:, 2] + 1) % VOCAB
    moved = (model(changed) - model(x)).abs().amax(dim=(0, 2)) > 0
    reach = (window - 1) * n_layers
    assert moved.nonzero().flatten().tolist() == list(range(2, 3 + reach))


def test_patterns_repeat_over_the_layers():
    config = TransformerConfig(
        n_layers=6, window=8, pattern=["window", "window-nope", "full", "full-nope"]
    )
    expected = [(8, "rope"), (8, "nope"), (None, "rope"), (None, "nope"), (8, "rope"), (8, "nope")]
    assert [(layer.window, layer.position) for layer in config.layers] == expected
    built = [(b.attention.window, b.attention.position) for b in Transformer(config).blocks]
    assert built == expected
    windows = TransformerConfig(window=8).layers
    assert [(layer.window, layer.position) for layer in windows] == [(8, "rope")] * 2
    learned = TransformerConfig(position="learned", train_length=4).layers
    assert [(layer.window, layer.position) for layer in learned] == [(None, "nope")] * 2


def test_layers_without_positions_ignore_them():
    x, positions = tokens(), torch.arange(S) * 3
    mixed = make(pattern=["full-nope", "full"], n_layers=2)
    alone = mixed.blocks[0].attention
    inputs = sequence()
    assert torch.equal(alone(inputs, positions=positions), alone(inputs))
    assert not torch.allclose(mixed(x, positions), mixed(x), atol=1e-3)
    nope = make(pattern=["full-nope", "full-nope"], n_layers=2, position="nope")
    assert torch.equal(nope(x, positions), nope(x))


def test_a_scaling_changes_the_rotating_layers_alone():
    model, x = make(pattern=["full", "full-nope"], n_layers=2), tokens()
    before = model(x)
    model.set_scaling("linear", factor=4.0)
    assert not torch.allclose(model(x), before, atol=1e-3)
    model.set_scaling("none")
    assert torch.equal(model(x), before)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS[1:6])
def test_it_compiles_in_one_graph(variant):
    torch._dynamo.reset()
    eager, compiled, x = make(**variant).float(), make(**variant).float(), tokens()
    compiled.compile(fullgraph=True, backend="aot_eager")
    for model in (eager, compiled):
        model(x).square().mean().backward()
    for one, other in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seq_len", [S, 1100])
def test_cuda_equals_cpu(variant, seq_len):
    x = tokens(1, seq_len)
    with torch.no_grad():
        expected = make(**variant).float()(x)
        logits = make(**{**variant, "backend": "auto"}).float().cuda()(x.cuda()).cpu()
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_flops_count_what_a_window_shows():
    plain = TransformerConfig(n_layers=4)
    mixed = TransformerConfig(n_layers=4, window=16, pattern=["window", "full"])
    attention_of_a_layer = (flops_per_token(plain, 64) - flops_per_token(plain, 0)) / 4
    saved = flops_per_token(plain, 64) - flops_per_token(mixed, 64)
    assert saved == 2 * attention_of_a_layer * (1 - 16 / 64)
    assert flops_per_token(mixed, 8) == flops_per_token(plain, 8)


# The rules


@pytest.mark.parametrize(
    ("kwargs", "start"),
    [
        ({"window": 0}, "model.window=0: must be null or an integer from 1"),
        ({"window": math.inf}, "model.window=inf"),
        (
            {"pattern": "window"},
            "model.pattern=window: must be null or a list of one or more, each one of full",
        ),
        ({"pattern": []}, "model.pattern=[]: must be null or a list"),
        ({"pattern": ["full"] * 3}, "model.pattern=[full,full,full]: must be null or a list of 1"),
        (
            {"pattern": ["full", "windwo"]},
            "model.pattern=[full,windwo]: must be null or a list of one or more, each one of full",
        ),
        (
            {"pattern": ["full", 3]},
            "model.pattern=[full,3]: must be null or a list of one or more, each one of full",
        ),
        ({"pattern": ["full", "window"]}, "model.pattern=[full,window]: needs the length"),
        ({"pattern": ["full"], "window": 8}, "model.window=8: no layer of model.pattern=[full]"),
        ({"pattern": ["full-nope"]}, "model.pattern=[full-nope]: leaves no layer for position="),
        (
            {"pattern": ["full", "full-nope"], "position": "sinusoidal"},
            "model.pattern=[full,full-nope]: position=sinusoidal is in the embedding",
        ),
    ],
)
def test_one_wrong_value(kwargs, start):
    with pytest.raises(ValueError) as error:
        TransformerConfig(**kwargs)
    lines = str(error.value).splitlines()
    assert len(lines) == 1 and lines[0].startswith(start), lines
