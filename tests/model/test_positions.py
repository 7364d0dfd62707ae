"""ALiBi, sinusoidal and learned positions against their papers' formulas, and how far they go."""

import math

import pytest
import torch
from torch import Tensor

from model import RoPEAttention, Transformer, TransformerConfig, generate, window_cores
from model.positions import LearnedPositions, SinusoidalPositions, alibi_slopes

VOCAB, S, H = 17, 12, 4
SMALL = {"vocab_size": VOCAB, "n_layers": 2, "d_model": 32, "n_heads": H, "backend": "pytorch"}


def make(position: str, **kwargs: object) -> Transformer:
    torch.manual_seed(0)
    kwargs = {"position": position, "train_length": S, **SMALL, **kwargs}
    model = Transformer(TransformerConfig(**kwargs)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def tokens(batch_size: int = 2, seq_len: int = S) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB, (batch_size, seq_len), generator=generator)


def published_slopes(n: int) -> list[float]:
    """As the paper's authors compute them, by recursion on the power of two above."""
    if math.log2(n).is_integer():
        start = 2.0 ** (-(2.0 ** -(math.log2(n) - 3)))
        return [start ** (i + 1) for i in range(n)]
    below = 2 ** math.floor(math.log2(n))
    return published_slopes(below) + published_slopes(2 * below)[::2][: n - below]


# ALiBi


@pytest.mark.parametrize("n_heads", [*range(1, 34), 48, 63, 64, 65, 96, 128])
def test_slopes_are_the_papers_for_any_number_of_heads(n_heads):
    slopes = alibi_slopes(n_heads)
    assert slopes.shape == (n_heads,) and slopes.dtype == torch.float32
    expected = torch.tensor(published_slopes(n_heads))
    torch.testing.assert_close(slopes, expected, rtol=1e-6, atol=0)


def test_slopes_of_eight_heads_are_halves():
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]


def alibi_oracle(module: RoPEAttention, x: Tensor, positions: Tensor, causal: bool) -> Tensor:
    """Softmax by hand over the whole square, at positions (B, S)."""
    q, k, v = module.qkv(x).unflatten(-1, (3, H, -1)).unbind(2)  # (B, S, H, D)
    scores = torch.einsum("bshd,bthd->bhst", q, k) / math.sqrt(q.shape[-1])
    distance = (positions[:, :, None] - positions[:, None, :]).abs().double()
    slopes = torch.tensor(published_slopes(H), dtype=torch.float64)
    scores = scores - slopes[:, None, None] * distance[:, None]
    if causal:
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -math.inf)
    y = torch.einsum("bhst,bthd->bshd", scores.softmax(-1), v)
    return module.out(y.flatten(-2))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [512, 5, 1])
def test_alibi_equals_the_oracle_in_any_blocks_with_gradients(causal, block, monkeypatch):
    monkeypatch.setattr(window_cores, "BLOCK", block)
    torch.manual_seed(0)
    module = RoPEAttention(32, H, 0.0, causal=causal, position="alibi").double()
    x = torch.randn(2, S, 32, dtype=torch.float64, requires_grad=True)
    own = torch.stack((torch.arange(S), torch.arange(S) * 3 - 7))
    for positions in (None, own[1], own):
        at = torch.arange(S) if positions is None else positions
        expected = alibi_oracle(module, x, at.expand(2, S), causal)
        y = module(x, positions=positions)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
        one, other = (torch.autograd.grad(t.square().sum(), x)[0] for t in (y, expected))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("block", [512, 3])
def test_alibi_joins_masks_and_zeroes_queries_with_nothing_to_see(block, monkeypatch):
    monkeypatch.setattr(window_cores, "BLOCK", block)
    module = RoPEAttention(32, H, 0.0, causal=True, position="alibi").double()
    x = torch.randn(2, S, 32, dtype=torch.float64, requires_grad=True)
    padding = torch.ones(2, 1, 1, S)
    padding[..., :4] = 0
    y = module(x, padding)
    y.square().sum().backward()
    assert (y[:, :4] == 0).all() and (y[:, 4:] != 0).all()
    assert x.grad.isfinite().all() and (x.grad[:, :4] == 0).all()
    torch.testing.assert_close(y[:, 4:], module(x[:, 4:]), rtol=0, atol=1e-12)


def test_alibi_shifts_without_effect_and_knows_its_cache_by_position():
    model, x = make("alibi"), tokens()
    positions = torch.arange(S) * 2 - 9
    with torch.no_grad():
        torch.testing.assert_close(model(x, torch.arange(S) + 10**9), model(x), rtol=0, atol=0)
        full, cache = model(x, positions), model.new_cache(2, S)
        pieces = [model(x[:, i : i + 4], positions[i : i + 4], cache) for i in range(0, S, 4)]
    torch.testing.assert_close(torch.cat(pieces, 1), full, rtol=0, atol=1e-9)
    assert not torch.allclose(full, model(x), atol=1e-3)


def test_alibi_keeps_no_square_of_scores_for_the_backward():
    """What the backward keeps grows with the length, not with its square."""
    module = RoPEAttention(32, H, 0.0, causal=True, position="alibi")
    kept = []
    for length in (window_cores.BLOCK * 2, window_cores.BLOCK * 4):
        saved: dict[int, int] = {}

        def count(tensor: Tensor, saved: dict[int, int] = saved) -> Tensor:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            y = module(torch.randn(1, length, 32, requires_grad=True))
        kept.append(sum(saved.values()))
        y.sum().backward()
    assert kept[1] < 2.5 * kept[0]


# Sinusoidal


@pytest.mark.parametrize("d_model", [2, 32, 768])
def test_sinusoidal_is_the_original_formula(d_model):
    positions = torch.tensor([0, 1, 2, 511, 512, 70_000])
    x = torch.randn(1, len(positions), d_model, dtype=torch.float64)
    i = torch.arange(d_model // 2, dtype=torch.float64)
    angle = positions[:, None].double() / 10000 ** (2 * i / d_model)
    expected = torch.empty(len(positions), d_model, dtype=torch.float64)
    expected[:, 0::2], expected[:, 1::2] = angle.sin(), angle.cos()
    added = SinusoidalPositions(d_model)(x, positions) - math.sqrt(d_model) * x
    torch.testing.assert_close(added[0], expected, rtol=0, atol=1e-6)


def test_sinusoidal_goes_to_any_position_and_survives_casts():
    module = SinusoidalPositions(32).to(torch.bfloat16)
    assert module.phases.dtype == torch.int64 and not module.state_dict()
    x = torch.zeros(1, 1, 32)
    far = torch.tensor([2**40])
    expected = torch.tensor(math.sin(2**40))  # the first pair turns by 1 radian
    assert abs(module(x, far)[0, 0, 0] - expected) < 1e-6
    torch.testing.assert_close(module(x, -far)[..., 0::2], -module(x, far)[..., 0::2])


# Learned


def test_learned_positions_are_their_vectors_and_end():
    model, x = make("learned"), tokens()
    assert isinstance(model.position_embedding, LearnedPositions)
    assert model.state_dict()["position_embedding.weight"].shape == (S, 32)
    swapped = torch.arange(S).roll(1)
    assert not torch.allclose(model(x), model(x, positions=swapped), atol=1e-3)
    with pytest.raises(ValueError, match=rf"position=learned: {S + 1} tokens.*do not extrapolate"):
        model(tokens(1, S + 1))
    for wrong in (S, -1):
        with pytest.raises(ValueError, match=f"position=learned: position {wrong},"):
            model(x[:, :1], positions=torch.tensor([wrong]))


def test_learned_positions_end_in_the_cache_and_in_generation_too():
    model = make("learned")
    with torch.no_grad():
        cache = model.new_cache(1, S + 4)
        model(tokens(1), cache=cache)
        with pytest.raises(ValueError, match="do not extrapolate"):
            model(tokens(1, 1), cache=cache)
    assert len(list(generate(model, tokens(1, 3), max_new_tokens=S - 2, seed=0))) == S - 2
    with pytest.raises(ValueError, match=f"max_new_tokens={S - 1}: .*try max_new_tokens={S - 2}"):
        generate(model, tokens(1, 3), max_new_tokens=S - 1)
    with pytest.raises(ValueError, match="prompt_tokens: position=learned"):
        generate(model, tokens(1, S + 1), max_new_tokens=1)


def test_learned_positions_need_their_number():
    with pytest.raises(ValueError, match=r"position=learned: needs data\.seq_len"):
        TransformerConfig(position="learned")
    config = TransformerConfig.from_config({"position": "learned", "data": {"seq_len": 40}}, 10)
    assert config.max_length == config.train_length == 40


# All of them


@pytest.mark.slow
@pytest.mark.parametrize("position", ["alibi", "sinusoidal", "learned"])
def test_it_compiles_in_one_graph_and_learns(position):
    torch._dynamo.reset()
    eager, compiled, x = make(position).float(), make(position).float(), tokens()
    compiled.compile(fullgraph=True, backend="aot_eager")
    for model in (eager, compiled):
        model(x).square().mean().backward()
    for one, other in zip(compiled.parameters(), eager.parameters(), strict=True):
        assert one.grad.isfinite().all() and (one.grad != 0).any()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("position", ["alibi", "sinusoidal", "learned"])
def test_bfloat16_autocast_is_near_the_exact_logits(position):
    model, x = make(position).float(), tokens()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
        exact = make(position)(x)
    assert ((logits - exact).norm() / exact.norm()).item() < 0.05


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
def test_attention_alone_has_no_embedding_to_add_to(position):
    with pytest.raises(ValueError, match=f"position={position}: .*rope, nope, alibi"):
        RoPEAttention(32, H, position=position)


def test_an_odd_width_has_no_sinusoids():
    with pytest.raises(ValueError, match=r"model\.d_model=33: must be even"):
        TransformerConfig(d_model=33, head_dim=8, position="sinusoidal")
