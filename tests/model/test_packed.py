"""A packed row is its documents one by one: outputs, gradients, every kind of layer."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import extras  # noqa: F401 - some layers are made by them
from kernels import resolve_backend
from methods.bend import bend
from methods.maps import ReRope
from model import RoPEAttention, Transformer, TransformerConfig, window_cores
from model.packed_cores import VARLEN, can_flash, document_of, keys_seen, positions_in

VOCAB = 19
LENGTHS = (1, 7, 12, 2, 10)
SMALL = {"vocab_size": VOCAB, "n_layers": 2, "d_model": 32, "n_heads": 4, "backend": "pytorch"}
MODELS = [
    {},
    {"n_kv_heads": 2, "qk_norm": True, "interleaved": False, "fraction": 0.5},
    {"ssmax": True},
    {"window": 4},
    {"window": 4, "pattern": ["window", "full-nope"], "n_kv_heads": 1, "ssmax": True},
    {"position": "nope"},
    {"position": "alibi"},
    {"position": "alibi", "window": 3},
    {"position": "sinusoidal"},
    {"position": "learned", "train_length": 12},
    {"attention_softcap": 5.0, "attention_scale": 0.3, "block": "sandwich"},
    {"attention_softcap": 5.0, "window": 4, "qk_norm": "width", "qkv_bias": True},
]


def name_of(options: dict) -> str:
    """Of a case, for pytest."""
    return "-".join(f"{key}={value}" for key, value in options.items()) or "plain"


def make(**options: object) -> Transformer:
    """Weights so large that positions and neighbours tell."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SMALL, **options})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model


def packed(*lengths: int) -> tuple[Tensor, Tensor]:
    """Tokens (1, T) and cu_seqlens of documents of these lengths."""
    generator = torch.Generator().manual_seed(3)
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    return torch.randint(VOCAB, (1, int(ends[-1])), generator=generator), ends


def one_by_one(model: torch.nn.Module, x: Tensor, cu_seqlens: Tensor) -> Tensor:
    bounds = pairwise(cu_seqlens.tolist())
    return torch.cat([model(x[:, a:b]) for a, b in bounds if a < b], dim=1)


def gradients(model: Transformer, logits: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, logits.numel()).to(logits).view_as(logits)
    return list(torch.autograd.grad((logits * weights).sum(), [*model.parameters()]))


def assert_alike(some: list[Tensor], others: list[Tensor], atol: float) -> None:
    for one, other in zip(some, others, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one, other, rtol=0, atol=atol * scale)


# The whole model


@pytest.mark.parametrize("options", MODELS, ids=name_of)
def test_documents_are_read_as_if_each_stood_alone(options: dict) -> None:
    model, (tokens, ends) = make(**options), packed(*LENGTHS)
    together, alone = model(tokens, cu_seqlens=ends), one_by_one(model, tokens, ends)
    assert_alike([together], [alone], 1e-12)
    assert_alike(gradients(model, together), gradients(model, alone), 1e-12)
    assert not torch.allclose(model(tokens[:, :12]), alone[:, :12], atol=1e-3)  # one document


@pytest.mark.parametrize("options", [{}, {"window": 4, "qk_norm": True}], ids=name_of)
def test_in_float32(options: dict) -> None:
    model, (tokens, ends) = make(**options).float(), packed(*LENGTHS)
    together, alone = model(tokens, cu_seqlens=ends), one_by_one(model, tokens, ends)
    assert_alike([together], [alone], 1e-5)
    assert_alike(gradients(model, together), gradients(model, alone), 1e-5)


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    options=st.sampled_from(MODELS),
)
def test_any_lengths(lengths: list[int], options: dict) -> None:
    """Empty documents too, with which their number is filled up."""
    model, (tokens, ends) = make(**options), packed(*lengths)
    with torch.no_grad():
        together, alone = model(tokens, cu_seqlens=ends), one_by_one(model, tokens, ends)
    assert_alike([together], [alone], 1e-12)


def test_one_document_is_the_whole_row() -> None:
    model, (tokens, ends) = make(), packed(12)
    assert torch.equal(model(tokens, cu_seqlens=ends), model(tokens))
    assert torch.equal(model(tokens, cu_seqlens=ends.long()), model(tokens))


def test_the_longest_document_may_be_known() -> None:
    model, (tokens, ends) = make(position="learned", train_length=12), packed(*LENGTHS)
    for most in (12, 13, 1000):
        given = model(tokens, cu_seqlens=ends, max_seqlen=most)
        assert torch.equal(given, model(tokens, cu_seqlens=ends))
    with pytest.raises(ValueError, match=r"^max_seqlen=11: a document has 12 tokens"):
        model(tokens, cu_seqlens=ends, max_seqlen=11)


def test_places_in_documents() -> None:
    ends = torch.tensor([0, 3, 3, 7], dtype=torch.int32)
    assert document_of(ends, 7).tolist() == [0, 0, 0, 2, 2, 2, 2]
    assert positions_in(ends, 7).tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert keys_seen(ends, 7, causal=True).tolist() == [1, 2, 3, 1, 2, 3, 4]
    assert keys_seen(ends, 7, causal=False).tolist() == [3, 3, 3, 4, 4, 4, 4]


def test_dropout_is_drawn_in_documents() -> None:
    """Of attention weights and of the residual stream, in training alone."""
    model, (tokens, ends) = make(dropout=0.5), packed(*LENGTHS)
    quiet = model(tokens, cu_seqlens=ends)
    torch.manual_seed(1)
    first = model.train()(tokens, cu_seqlens=ends)
    torch.manual_seed(1)
    assert torch.equal(first, model(tokens, cu_seqlens=ends))
    assert not torch.allclose(first, quiet)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("options", [{}, {"window": 3}, {"position": "alibi"}], ids=name_of)
def test_one_layer_in_both_directions(options: dict, causal: bool) -> None:
    torch.manual_seed(0)
    settings = {"dropout": 0.0, "causal": causal, "backend": "pytorch", **options}
    layer = RoPEAttention(32, 4, **settings).double()
    x, (_, ends) = torch.randn(1, sum(LENGTHS), 32, dtype=torch.float64), packed(*LENGTHS)
    assert_alike([layer(x, cu_seqlens=ends)], [one_by_one(layer, x, ends)], 1e-12)


def test_what_is_done_to_a_trained_model_is_done_in_each_document() -> None:
    model, (tokens, ends) = make(), packed(*LENGTHS)
    model.set_score_scaling(4)
    assert_alike([model(tokens, cu_seqlens=ends)], [one_by_one(model, tokens, ends)], 1e-12)
    bend(model, ReRope(3))
    assert_alike([model(tokens, cu_seqlens=ends)], [one_by_one(model, tokens, ends)], 1e-12)


def test_frequencies_that_follow_the_length_follow_no_row() -> None:
    model, (tokens, ends) = make(), packed(*LENGTHS)
    model.set_scaling("dynamic", train_length=12)
    assert_alike([model(tokens, cu_seqlens=ends)], [one_by_one(model, tokens, ends)], 1e-12)
    tokens, ends = packed(13, 2)
    with pytest.raises(ValueError, match=r"a document of 13 tokens, .* train_length=12; read"):
        model(tokens, cu_seqlens=ends)


# Compiled


@pytest.mark.slow
@pytest.mark.parametrize("options", MODELS, ids=name_of)
def test_compiles_as_one_graph(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(window_cores, "BLOCK", 8)
    monkeypatch.setattr(window_cores, "WINDOW_BLOCK", 8)
    model, (tokens, ends) = make(**options), packed(*LENGTHS)
    alone = one_by_one(model, tokens, ends)
    expected = gradients(model, alone)
    model.compile(fullgraph=True, backend="aot_eager")
    together = model(tokens, cu_seqlens=ends)
    assert_alike([together], [alone], 1e-12)
    assert_alike(gradients(model, together), expected, 1e-11)


@pytest.mark.parametrize(
    "options",
    [
        {"n_layers": 1},
        pytest.param(
            {"window": 4, "pattern": ["window", "full-nope"], "n_kv_heads": 1, "ssmax": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=name_of,
)
def test_other_documents_need_no_other_graph(options: dict) -> None:
    torch._dynamo.reset()
    graphs = 0

    def counter(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    model, compiled = make(**options), make(**options)
    compiled.compile(fullgraph=True, backend=counter)
    with torch.no_grad():
        for lengths in ((10, 2, 0, 0), (3, 3, 3, 3), (12, 0, 0, 0)):
            tokens, ends = packed(*lengths)
            alone = one_by_one(model, tokens, ends)
            assert_alike([compiled(tokens, cu_seqlens=ends)], [alone], 1e-12)
    assert graphs == 1


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", MODELS, ids=name_of)
def test_on_a_gpu(options: dict, dtype: torch.dtype) -> None:
    """Both backends' rotation; flash attention in 16 bits, and document by document."""
    sizes = {"d_model": 128, "n_heads": 4, "backend": "auto", "train_length": 300}
    model, (tokens, ends) = make(**{**options, **sizes}), packed(1, 130, 257, 3, 300)
    assert resolve_backend("auto", "cuda") == "triton"
    right = one_by_one(model, tokens, ends)
    model = model.to("cuda", dtype)
    tokens, ends = tokens.cuda(), ends.cuda()
    together, alone = model(tokens, cu_seqlens=ends), one_by_one(model, tokens, ends)
    torch.testing.assert_close(model(tokens, cu_seqlens=ends, max_seqlen=300), together)
    off = float((alone.double().cpu() - right).abs().max())
    assert float((together.double().cpu() - right).abs().max()) <= 2 * off + 1e-4
    both = gradients(model, together), gradients(model, alone)
    grads = [torch.cat([g.flatten().double() for g in one]) for one in both]
    least = 0.99999 if dtype == torch.float32 else 0.99
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > least


@pytest.mark.gpu
def test_flash_attention_is_taken() -> None:
    assert VARLEN is not None
    layer = RoPEAttention(128, 2, 0.0, causal=True).to("cuda", torch.bfloat16)
    q = torch.zeros(1, 8, 2, 64, device="cuda", dtype=torch.bfloat16)
    assert can_flash(layer.core, q, 0.0)
    assert not can_flash(layer.core, q, 0.1)
    assert not can_flash(layer.core, q.float(), 0.0)


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"window": 40, "n_kv_heads": 2}, {"position": "alibi"}])
def test_compiled_on_a_gpu(options: dict) -> None:
    model = make(d_model=128, **options).to("cuda", torch.bfloat16)
    tokens, ends = (x.cuda() for x in packed(1, 130, 257, 3, 300))
    eager = model(tokens, cu_seqlens=ends)
    model.compile(fullgraph=True)
    compiled = model(tokens, cu_seqlens=ends)
    compiled.float().sum().backward()
    both = (x.double().flatten() for x in (compiled, eager))
    assert torch.nn.functional.cosine_similarity(*both, dim=0) > 0.99


# Refused

TOKENS, ENDS = packed(5, 7)


@pytest.mark.parametrize(
    "cu_seqlens, said",
    [
        ([0, 5, 12], "must be a tensor or None; got list"),
        (ENDS.float(), "must be int32 or int64; got torch.float32"),
        (ENDS[None], r"must be \(documents \+ 1,\), two or more; got \(1, 3\)"),
        (ENDS[:1], r"must be \(documents \+ 1,\), two or more; got \(1,\)"),
        (ENDS.to("meta"), "must be on cpu; got meta"),
        (ENDS[1:], r"must rise from 0 to the 12 tokens of the row; got \[5, 12\]"),
        (ENDS[:2], r"must rise from 0 to the 12 tokens of the row; got \[0, 5\]"),
        (torch.tensor([0, 7, 5, 12]), r"must rise from 0 .* got \[0, 7, 5, 12\]"),
    ],
)
def test_wrong_cu_seqlens_are_refused(cu_seqlens: object, said: str) -> None:
    model = make(position="learned", train_length=12)
    with pytest.raises(ValueError, match=f"^cu_seqlens: {said}"):
        model(TOKENS, cu_seqlens=cu_seqlens)
    with pytest.raises(ValueError, match=f"^cu_seqlens: {said}"):
        model.attentions()[0](torch.zeros(1, 12, 32).double(), cu_seqlens=cu_seqlens)


def test_what_does_not_go_with_packing_is_refused() -> None:
    model = make()
    with pytest.raises(ValueError, match=r"for one packed row; got a batch of 2"):
        model(TOKENS.repeat(2, 1), cu_seqlens=ENDS)
    with pytest.raises(ValueError, match="are given without mask, positions and cache"):
        model(TOKENS, torch.arange(12), cu_seqlens=ENDS)
    with pytest.raises(ValueError, match="are given without mask, positions and cache"):
        model(TOKENS, cache=model.new_cache(1, 12), cu_seqlens=ENDS)
    with pytest.raises(ValueError, match="are given without mask, positions and cache"):
        x = torch.zeros(1, 12, 32).double()
        model.attentions()[0](x, torch.ones(12, 12), cu_seqlens=ENDS)
    with pytest.raises(ValueError, match="position=learned: 7 tokens, but only 0 to 5"):
        make(position="learned", train_length=6)(TOKENS, cu_seqlens=ENDS)
    drawn = make(random_positions=64)
    drawn(TOKENS, cu_seqlens=ENDS)
    with pytest.raises(ValueError, match=r"train without model.random_positions"):
        drawn.train()(TOKENS, cu_seqlens=ENDS)
