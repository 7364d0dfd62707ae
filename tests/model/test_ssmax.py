"""SSMax, scores that sharpen with the number of keys, against its paper's formula."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import RoPEAttention, Transformer, TransformerConfig
from model.sharpening import ssmax_start

VOCAB, S, H, C = 17, 12, 4, 32
SMALL = {"vocab_size": VOCAB, "n_layers": 2, "d_model": C, "n_heads": H, "backend": "pytorch"}


def make(**kwargs: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SMALL, **kwargs})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model


def tokens(batch_size: int = 2, seq_len: int = S) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB, (batch_size, seq_len), generator=generator)


@pytest.mark.parametrize("causal", [True, False])
def test_scores_are_multiplied_by_s_ln_n(causal):
    torch.manual_seed(0)
    module = RoPEAttention(C, H, 0.0, causal=causal, position="nope", ssmax=True).double()
    torch.nn.init.normal_(module.ssmax.scale)
    x = torch.randn(2, S, C, dtype=torch.float64)
    q, k, v = module.qkv(x).unflatten(-1, (3, H, -1)).unbind(2)
    scores = torch.einsum("bshd,bthd->bhst", q, k) / math.sqrt(q.shape[-1])
    n = torch.arange(1, S + 1).double() if causal else torch.full((S,), float(S)).double()
    scores = scores * module.ssmax.scale[:, None, None] * n.log()[:, None]
    if causal:
        scores = scores.masked_fill(~torch.ones(S, S, dtype=torch.bool).tril(), -math.inf)
    y = torch.einsum("bhst,bthd->bshd", scores.softmax(-1), v)
    torch.testing.assert_close(module(x), module.out(y.flatten(-2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 256, 1024])
def test_it_starts_as_plain_softmax_on_average(length):
    n = torch.arange(1, max(length, 2) + 1, dtype=torch.float64)
    assert (ssmax_start(length) * n.log()).mean().item() == pytest.approx(1)
    model = Transformer(TransformerConfig(**SMALL, ssmax=True, train_length=length))
    for block in model.blocks:
        assert torch.equal(block.attention.ssmax.scale, torch.full((H,), ssmax_start(length)))


@pytest.mark.parametrize(
    "variant", [{}, {"position": "alibi"}, {"window": 4, "pattern": ["window", "full-nope"]}]
)
@pytest.mark.parametrize("pieces", [[S], [5, 4, 3], [1] * S])
def test_cached_outputs_equal_the_full_forward(variant, pieces):
    model, x = make(ssmax=True, **variant), tokens()
    with torch.no_grad():
        full, cache = model(x), model.new_cache(2, S)
        logits = torch.cat([model(piece, cache=cache) for piece in x.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(logits, full, rtol=0, atol=1e-10 * full.abs().max().item())
    assert not torch.allclose(full, make(**variant)(x), atol=1e-3)


def test_layers_with_a_window_have_none():
    model = make(ssmax=True, window=4, pattern=["window", "full"])
    assert [block.attention.ssmax is None for block in model.blocks] == [True, False]
    assert "blocks.1.attention.ssmax.scale" in model.state_dict()
    with pytest.raises(ValueError, match=r"model\.ssmax=true: has no effect"):
        TransformerConfig(ssmax=True, window=4)


def test_s_learns_and_compiles():
    torch._dynamo.reset()
    eager, compiled = make(ssmax=True).float(), make(ssmax=True).float()
    compiled.compile(fullgraph=True, backend="aot_eager")
    for model in (eager, compiled):
        F.cross_entropy(model(tokens())[:, :-1].flatten(0, 1), tokens()[:, 1:].flatten()).backward()
    for one, other in zip(compiled.parameters(), eager.parameters(), strict=True):
        assert (one.grad != 0).any()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_bfloat16_counts_the_keys_exactly():
    module = RoPEAttention(C, H, 0.0, causal=True, ssmax=True).ssmax
    q = torch.ones(1, 1, H, 8)
    exact = module(q, 70_000, 70_001, True)
    half = module.to(torch.bfloat16)(q, 70_000, 70_001, True)
    torch.testing.assert_close(half, exact, rtol=2**-8, atol=0)  # s itself is rounded


def test_it_is_on_or_off():
    with pytest.raises(ValueError) as error:
        TransformerConfig(ssmax=1)
    assert str(error.value).startswith("model.ssmax=1: must be true or false")
    assert len(str(error.value).splitlines()) == 1
