"""The Transformer as a whole: causality, cache, learning, compilation, scaling, size."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import rope_phases
from model import ScalingConfig, Transformer, TransformerConfig, rope_frequencies
from model.flops import flops_per_token

VOCAB, S = 17, 12
SMALL = {"vocab_size": VOCAB, "n_layers": 2, "d_model": 32, "n_heads": 4, "backend": "pytorch"}
VARIANTS = [
    {},
    {"n_kv_heads": 2, "qk_norm": True},
    {"n_kv_heads": 1, "mlp": "relu2", "tied_head": False, "fraction": 0.5},
    {"mlp": "gelu", "interleaved": False, "head_dim": 12},
    {"position": "nope"},
    {"position": "alibi", "n_kv_heads": 2},
    {"position": "sinusoidal"},
    {"position": "learned", "train_length": S},
]


def make(dtype: torch.dtype = torch.float64, **kwargs: object) -> Transformer:
    """A small model in eval mode, its weights large enough for every part to matter."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SMALL, **kwargs}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model.to(dtype).eval()


def tokens(batch_size: int = 2, seq_len: int = S) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB, (batch_size, seq_len), generator=generator)


# What it computes


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_token_changes_nothing_before_it(variant):
    model, x = make(**variant), tokens()
    logits = model(x)
    assert logits.shape == (2, S, VOCAB)
    for t in (0, 5, S - 1):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB
        difference = (model(changed) - logits).abs().amax(dim=(0, 2))
        assert difference[:t].max().item() == 0 if t else True
        assert (difference[t:] > 1e-9).all()


def test_positions_shift_without_effect_and_stretch_with_one():
    model, x = make(), tokens()
    here = torch.arange(S)
    torch.testing.assert_close(model(x, positions=here), model(x), rtol=0, atol=0)
    torch.testing.assert_close(model(x, positions=here + 10**6), model(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(
        model(x, positions=torch.stack((here, here - 40))), model(x), rtol=0, atol=1e-9
    )
    assert not torch.allclose(model(x, positions=here * 3), model(x), atol=1e-3)


def test_order_matters_only_with_positions():
    x = torch.tensor([[1, 2, 3, 4]])
    swapped = torch.tensor([[2, 1, 3, 4]])
    # Causal attention over one layer sees a set of earlier tokens, unless they have positions.
    for position, same in (("nope", True), ("rope", False)):
        model = make(position=position, n_layers=1)
        assert torch.allclose(model(x)[:, -1], model(swapped)[:, -1], atol=1e-9) == same


@pytest.mark.parametrize("backend", ["pytorch", pytest.param("triton", marks=pytest.mark.slow)])
def test_it_overfits_one_batch(backend):
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SMALL, "backend": backend}))
    x = tokens(2, 9)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    steps = 60 if backend == "pytorch" else 40
    for _ in range(steps):
        loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < math.log(VOCAB)


def test_backends_give_the_same_losses_and_gradients():
    results = []
    for backend in ("pytorch", "triton"):
        model, x = make(torch.float32, backend=backend, n_kv_heads=2).train(), tokens()
        loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        loss.backward()
        results.append((loss.detach(), *(p.grad for p in model.parameters())))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# The cache


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("pieces", [[S], [5, 4, 3], [1] * S, [4] + [1] * (S - 4)])
def test_cached_outputs_equal_the_full_forward(variant, dtype, atol, pieces):
    model, x = make(dtype, **variant), tokens()
    with torch.no_grad():
        full = model(x)
        cache = model.new_cache(batch_size=2, max_length=S)
        logits = torch.cat([model(piece, cache=cache) for piece in x.split(pieces, dim=1)], dim=1)
    assert cache.length == cache.max_length == S
    torch.testing.assert_close(logits, full, rtol=0, atol=atol * full.abs().max().item())


def test_cache_with_positions_of_ones_own():
    model, x = make(), tokens()
    positions = torch.arange(S) * 2 - 9
    cache = model.new_cache(2, S)
    with torch.no_grad():
        logits = [model(x[:, i : i + 4], positions[i : i + 4], cache) for i in range(0, S, 4)]
        torch.testing.assert_close(torch.cat(logits, 1), model(x, positions), rtol=0, atol=1e-9)


def test_cache_refuses_what_it_cannot_hold():
    model, x = make(), tokens()
    cache = model.new_cache(batch_size=2, max_length=S - 1)
    with torch.no_grad(), pytest.raises(ValueError, match=rf"{S} tokens .*max_length={S - 1}"):
        model(x, cache=cache)
    with torch.no_grad(), pytest.raises(ValueError, match="batch"):
        model(x[:1, :1], cache=cache)
    with pytest.raises(ValueError, match="no_grad"):
        model(x[:, :1], cache=cache)
    assert cache.length == 0


# Parameters


def test_tied_head_is_the_embedding():
    tied, untied = make(), make(tied_head=False)
    assert tied.head.weight.data_ptr() == tied.embedding.weight.data_ptr()
    assert untied.head.weight.data_ptr() != untied.embedding.weight.data_ptr()
    assert untied.num_parameters() - tied.num_parameters() == VOCAB * 32
    moved = tied.to(torch.float32)
    assert moved.head.weight is moved.embedding.weight


def test_initialisation_is_the_table():
    model = Transformer(TransformerConfig(vocab_size=512, n_layers=4, d_model=256, n_heads=4))
    expected = {"out.weight": 0.02 / math.sqrt(8), "down.weight": 0.02 / math.sqrt(8)}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            std = expected.get(".".join(name.split(".")[-2:]), 0.02)
            assert parameter.std().item() == pytest.approx(std, rel=0.03), name
        else:
            assert (parameter == 1).all(), name
    loss = F.cross_entropy(model(tokens()).flatten(0, 1), (tokens() + VOCAB).flatten())
    assert loss.item() == pytest.approx(math.log(512), abs=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant):
    model = make(**variant)
    model(tokens()).square().sum().backward()
    assert all((p.grad != 0).any() for p in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_flops_are_three_times_the_forward_products(variant):
    """Torch's own counter; its plain attention multiplies the whole square, as the formula does."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model = make(torch.float32, **variant)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens(1))
    assert flops_per_token(model.config, S) * S == 3 * counter.get_total_flops()


# Precision


def test_bfloat16_model_keeps_exact_phases():
    model = make(torch.float32, n_kv_heads=2)
    exact = rope_phases(rope_frequencies(8)[0])
    half = make(torch.bfloat16, n_kv_heads=2)
    for block in half.blocks:
        assert torch.equal(block.attention.phases, exact)
    x, far = tokens(), torch.arange(S) + 100_003
    with torch.no_grad():
        near_logits, far_logits, reference = half(x), half(x, far), model(x)
    scale = reference.abs().max()
    assert near_logits.dtype == torch.bfloat16
    assert ((near_logits - reference).abs().max() / scale).item() < 0.1
    # Positions that bfloat16 cannot tell apart still rotate exactly.
    assert ((far_logits - near_logits).abs().max() / scale).item() < 0.1
    assert not any("phases" in name for name in half.state_dict())


def test_autocast_trains_and_decodes():
    model, x = make(torch.float32, qk_norm=True), tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
        logits.float().square().mean().backward()
        with torch.no_grad():
            cached = model(x, cache=model.new_cache(2, S))
    assert logits.dtype == torch.bfloat16
    assert all(p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(cached, logits, rtol=0, atol=0.05 * logits.abs().max().item())


# Compilation


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pytorch", "triton"])
@pytest.mark.parametrize("variant", [{}, {"n_kv_heads": 2, "qk_norm": True}])
def test_it_compiles_in_one_graph(backend, variant):
    torch._dynamo.reset()
    eager, x = make(torch.float32, backend=backend, **variant), tokens()
    model = make(torch.float32, backend=backend, **variant)
    keys = set(model.state_dict())
    model.compile(fullgraph=True, backend="aot_eager")
    for module in (eager, model):
        module(x).square().mean().backward()
    torch.testing.assert_close(model(x), eager(x), rtol=1e-4, atol=1e-4)
    for one, other in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)
    assert set(model.state_dict()) == keys


# With windows: test_recompilation.py
@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"window": 5}])
def test_a_compiled_model_takes_any_length(variant):
    torch._dynamo.reset()
    eager, compiled = make(torch.float32, **variant), make(torch.float32, **variant)
    compiled.compile(fullgraph=True, backend="eager", dynamic=True)
    for seq_len in (S, 7, 1):
        x = tokens(2, seq_len)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)


def test_a_compiled_model_follows_its_scaling():
    torch._dynamo.reset()
    eager, compiled, x = make(torch.float32), make(torch.float32), tokens()
    compiled.compile(fullgraph=True, backend="eager")
    for method, factor in (("none", None), ("yarn", 4.0), ("linear", 2.0), ("yarn", 8.0)):
        for model in (eager, compiled):
            model.set_scaling(method, factor=factor, train_length=6)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backend", ["auto", "pytorch"])
def test_cuda_equals_cpu(variant, backend):
    model, x = make(torch.float32, **variant), tokens()
    on_gpu = make(torch.float32, **{**variant, "backend": backend}).cuda()
    with torch.no_grad():
        expected, logits = model(x), on_gpu(x.cuda())
        cache = on_gpu.new_cache(2, S)
        pieces = [on_gpu(piece.cuda(), cache=cache) for piece in x.split([5, 1, 6], dim=1)]
    atol = 1e-4 * expected.abs().max().item()
    torch.testing.assert_close(logits.cpu(), expected, rtol=0, atol=atol)
    torch.testing.assert_close(torch.cat(pieces, dim=1).cpu(), expected, rtol=0, atol=atol)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["triton", "pytorch"])
def test_inductor_in_bfloat16_equals_eager(backend):
    torch._dynamo.reset()
    kwargs = {"backend": backend, "n_kv_heads": 2, "qk_norm": True}
    eager, compiled = (make(torch.float32, **kwargs).cuda() for _ in range(2))
    compiled.compile(fullgraph=True)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        one, other = eager(tokens().cuda()).float(), compiled(tokens().cuda()).float()
    other.square().mean().backward()
    assert ((one - other).norm() / one.norm()).item() < 2e-2
    assert all(p.grad.isfinite().all() for p in compiled.parameters())


# Scaling


def test_linear_scaling_is_fractional_positions():
    model, x = make(), tokens()
    full = model(x, positions=torch.arange(S))
    model.set_scaling("linear", factor=4.0)
    scaled = model(x, positions=4 * torch.arange(S))
    torch.testing.assert_close(scaled, full, rtol=0, atol=1e-9)
    assert not torch.allclose(model(x), full, atol=1e-3)


def test_set_scaling_equals_a_model_built_with_it_and_none_restores():
    options = {"beta_fast": 16.0, "attention_factor": 1.5}
    scaling = ScalingConfig("yarn", factor=4.0, train_length=64, options=options)
    built, plain, x = make(scaling=scaling), make(), tokens()
    before = plain(x)
    assert not torch.allclose(built(x), before, atol=1e-3)
    plain.set_scaling("yarn", factor=4.0, train_length=64, **options)
    assert torch.equal(plain(x), built(x))
    plain.set_scaling("none")
    assert torch.equal(plain(x), before)
    plain.set_scaling(**built.config.scaling.arguments())
    assert torch.equal(plain(x), built(x))


def test_attention_factor_enters_the_scores_squared():
    model = make(n_layers=1)
    x = tokens(1)
    model.set_scaling("yarn", factor=1.0, train_length=64, attention_factor=2.0)
    sharper = model(x)
    model.set_scaling("none")
    with torch.no_grad():
        model.blocks[0].attention.qkv.weight[:64].mul_(2)  # q and k: scores × 4
    torch.testing.assert_close(sharper, model(x), rtol=0, atol=1e-9)


def test_a_failed_scaling_changes_nothing():
    model, x = make(), tokens()
    before = model(x)
    with pytest.raises(ValueError, match="beta_slwo"):
        model.set_scaling("yarn", factor=2.0, train_length=8, beta_slwo=1.0)
    assert torch.equal(model(x), before)


def test_nothing_to_scale_without_rotation():
    model = make(position="nope")
    model.set_scaling("none", seq_len=64, train_length=16)
    with pytest.raises(ValueError, match="position=nope"):
        model.set_scaling("linear", factor=2.0)


def test_wrong_token_shapes_are_refused():
    with pytest.raises(ValueError, match=r"tokens: must be \(batch, seq_len\); got \(12,\)"):
        make()(tokens()[0])


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().config.n_layers = 3
