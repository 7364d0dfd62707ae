"""RoPEAttention against a naive oracle in float64, and its promises as a user meets them."""

import math

import pytest
import torch
from torch import Tensor, nn

from model import RoPEAttention

B, S, C, H = 2, 7, 32, 4
BACKENDS = ["pytorch", "triton"]


def oracle_rotate(x: Tensor, positions: Tensor, theta: float, rotary_dim: int) -> Tensor:
    """x (B, S, H, D) float64, interleaved pairs as complex numbers times e^(i m theta_i)."""
    pairs = torch.view_as_complex(x[..., :rotary_dim].unflatten(-1, (-1, 2)).contiguous())
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim
    angles = positions.double()[:, None] * theta**-exponents  # (S, rotary_dim/2)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((torch.view_as_real(turned).flatten(-2), x[..., rotary_dim:]), dim=-1)


def oracle_attention(
    module: RoPEAttention,
    x: Tensor,
    allowed: Tensor,
    *,
    theta: float = 10000.0,
    fraction: float = 1,
) -> Tensor:
    """One query, head and sentence at a time; allowed (B, H, S, S) booleans."""
    head_dim, n_kv = module.head_dim, module.n_kv_heads
    q_width, kv_width = module.n_heads * head_dim, n_kv * head_dim
    q, k, v = (x @ module.qkv.weight.T).split((q_width, kv_width, kv_width), dim=-1)
    q, k, v = (t.unflatten(-1, (-1, head_dim)) for t in (q, k, v))
    if module.q_norm is not None:
        q, k = (t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt() for t in (q, k))
        q, k = q * module.q_norm.weight, k * module.k_norm.weight
    positions = torch.arange(x.shape[1])
    q, k = (oracle_rotate(t, positions, theta, round(fraction * head_dim)) for t in (q, k))
    y = torch.zeros_like(q)
    for b in range(x.shape[0]):
        for h in range(module.n_heads):
            shared = h // (module.n_heads // n_kv)
            for s in range(x.shape[1]):
                keys = allowed[b, h, s].nonzero().flatten()
                if len(keys):
                    scores = k[b, keys, shared] @ q[b, s, h] / math.sqrt(head_dim)
                    y[b, s, h] = scores.softmax(0) @ v[b, keys, shared]
    return y.flatten(-2) @ module.out.weight.T


def make(**kwargs: object) -> RoPEAttention:
    torch.manual_seed(0)
    return RoPEAttention(C, H, **{"dropout": 0.0, "backend": "pytorch", **kwargs}).double()


def sequence(seed: int = 1) -> Tensor:
    return torch.randn(B, S, C, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_mask(*shape: int) -> Tensor:
    mask = torch.rand(*shape, generator=torch.Generator().manual_seed(2)) < 0.5
    mask[..., 3, :] = False  # a query that may attend to nothing
    return mask


TRIL = torch.ones(S, S, dtype=torch.bool).tril()


MASKS = [None, (S, S), (B, S, S), (1, S, S), (B, 1, S, S), (1, H, S, S), (B, H, S, S), (S, 1)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [*MASKS, (B, 1, S, 1)])
def test_masks_equal_the_oracle(causal, shape):
    module, x = make(causal=causal), sequence()
    mask = None if shape is None else random_mask(*shape)
    allowed = torch.ones(B, H, S, S, dtype=torch.bool)
    if mask is not None:
        allowed = allowed & (mask.unsqueeze(1) if mask.ndim == 3 else mask)
    if causal:
        allowed = allowed & TRIL
    expected = oracle_attention(module, x, allowed)
    torch.testing.assert_close(module(x, mask), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mask", [torch.ones(1, S), torch.ones(S), torch.ones(B, 1, 1, S)])
def test_padding_masks_broadcast(mask):
    mask[..., -2:] = 0
    module, x = make(), sequence()
    allowed = mask.bool().expand(B, H, S, S)
    torch.testing.assert_close(
        module(x, mask), oracle_attention(module, x, allowed), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float32])
def test_nonzero_of_any_dtype_may_attend(dtype):
    module, x, mask = make(), sequence(), random_mask(S, S)
    assert torch.equal(module(x, mask.to(dtype) * torch.ones((), dtype=dtype)), module(x, mask))
    if dtype != torch.bool:
        assert torch.equal(module(x, mask.to(dtype) * 3), module(x, mask))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"theta": 100.0},
        {"n_kv_heads": 2},
        {"n_kv_heads": 1, "causal": True},
        {"head_dim": 12},
        {"fraction": 0.5},
        {"qk_norm": True, "n_kv_heads": 2},
    ],
)
def test_variants_equal_the_oracle(kwargs):
    module, x = make(**kwargs), sequence()
    if kwargs.get("qk_norm"):
        nn.init.normal_(module.q_norm.weight)
        nn.init.normal_(module.k_norm.weight)
    allowed = TRIL if kwargs.get("causal") else torch.ones(S, S, dtype=torch.bool)
    passed = {name: kwargs[name] for name in ("theta", "fraction") if name in kwargs}
    expected = oracle_attention(module, x, allowed.expand(B, H, S, S), **passed)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_kv_heads", [2, 4])
@pytest.mark.parametrize("shape", MASKS)
def test_masks_on_cuda_equal_the_oracle(shape, n_kv_heads, dtype):
    module, x = make(causal=True, n_kv_heads=n_kv_heads), sequence()
    mask = torch.ones(S, S) if shape is None else random_mask(*shape)
    allowed = (mask.unsqueeze(1) if mask.ndim == 3 else mask).bool() & TRIL
    expected = oracle_attention(module, x, allowed.expand(B, H, S, S))
    module, x = module.to("cuda", dtype), x.to("cuda", dtype).requires_grad_()
    y = module(x, mask.cuda())
    y.sum().backward()
    assert x.grad.isfinite().all() and (y.cpu().double()[expected == 0] == 0).all()
    atol = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(y.cpu().double(), expected, rtol=0, atol=atol)


def test_rows_that_may_attend_to_nothing_give_zero_and_finite_gradients():
    module, x, mask = make(causal=True), sequence().requires_grad_(), torch.ones(S, S)
    mask[:, 0] = 0  # joined with causal: the first query is left with nothing
    mask[4] = 0
    y = module(x, mask)
    y.square().sum().backward()
    assert (y[:, [0, 4]] == 0).all() and (y[:, [1, 2, 3, 5, 6]] != 0).all()
    assert x.grad.isfinite().all() and (x.grad != 0).any()
    assert (x.grad[:, 4] != 0).any()  # as a key and value it still serves later queries
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
def test_call_as_published(backend):
    attention = RoPEAttention(512, 8, backend=backend)
    x = torch.randn(2, 16, 512)
    assert attention(x).shape == x.shape
    assert attention(x, mask=torch.tril(torch.ones(16, 16))).shape == x.shape
    assert attention.dropout == 0.1 and not attention.causal


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backends_agree_with_gradients(interleaved, dtype):
    results = []
    for backend in BACKENDS:
        torch.manual_seed(0)
        module = RoPEAttention(
            C, H, 0.0, backend=backend, n_kv_heads=2, fraction=0.5, interleaved=interleaved
        ).to(dtype)
        x = sequence().to(dtype).requires_grad_()
        y = module(x, positions=torch.arange(1000, 1000 + S))
        y.square().sum().backward()
        results.append((y.detach(), x.grad, module.qkv.weight.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [1, 12345, 2**31, -(2**20)])
def test_only_relative_positions_matter(offset):
    module, x = make(), sequence()
    positions = torch.arange(S)
    torch.testing.assert_close(
        module(x, positions=positions + offset),
        module(x),
        rtol=0,
        atol=1e-7 if offset > 2**30 else 1e-9,
    )
    assert not torch.allclose(module(x, positions=positions * 2), module(x), atol=1e-4)


def test_positions_of_each_sequence():
    module, x = make(), sequence()
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 5, 6, 7, 40, 41, 42]])
    y = module(x, positions=positions)
    for b in range(B):
        alone = module(x[b : b + 1], positions=positions[b])
        torch.testing.assert_close(y[b : b + 1], alone, rtol=0, atol=1e-12)


def test_without_positions_tokens_are_a_set():
    x, order = sequence(), torch.randperm(S, generator=torch.Generator().manual_seed(0))
    nope, rope = make(position="nope"), make()
    torch.testing.assert_close(nope(x[:, order]), nope(x)[:, order], rtol=0, atol=1e-12)
    assert not torch.allclose(rope(x[:, order]), rope(x)[:, order], atol=1e-4)


def test_gqa_equals_mha_with_repeated_heads():
    gqa, mha = make(n_kv_heads=2), make()
    q, k, v = gqa.qkv.weight.split((C, C // 2, C // 2))
    k, v = (w.unflatten(0, (2, -1)).repeat_interleave(2, dim=0).flatten(0, 1) for w in (k, v))
    mha.load_state_dict({"qkv.weight": torch.cat((q, k, v)), "out.weight": gqa.out.weight})
    x = sequence()
    torch.testing.assert_close(gqa(x), mha(x), rtol=0, atol=1e-12)


def test_dropout_acts_in_training_only():
    module, x = make(dropout=0.5), sequence()
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))
    torch.testing.assert_close(module(x), make(dropout=0.0)(x), rtol=0, atol=0)


def test_phases_survive_casts_and_stay_out_of_checkpoints():
    module = RoPEAttention(C, H)
    phases = module.phases.clone()
    # 2^64 times the first frequency, 1 radian, in turns: 2^64 / 2 pi
    assert phases[0].item() == 2935890503282001226
    module.to(torch.bfloat16)
    assert module.phases.dtype == torch.int64 and torch.equal(module.phases, phases)
    assert set(module.state_dict()) == {"qkv.weight", "out.weight"}


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((S + 1, S), [f"({S + 1}, {S})"]),
        ((B + 1, S, S), [f"({B}, {S}, {S})"]),
        ((S, B), ["mask"]),
        ((1, B, H, S, S), ["mask"]),
    ],
)
def test_wrong_masks_are_refused(shape, named):
    with pytest.raises(ValueError) as error:
        make()(sequence(), torch.ones(shape))
    assert all(text in str(error.value) for text in named)


@pytest.mark.parametrize("shape", [(S, C), (B, S, C + 1), (B, S, H, C)])
def test_wrong_inputs_are_refused(shape):
    with pytest.raises(ValueError, match="x: must be"):
        make()(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"n_heads": 3}, ["n_heads=3", "d_model=32", "1, 2, 4, 8, 16"]),
        ({"dropout": 1.5, "theta": math.inf}, ["dropout=1.5", "theta=inf"]),
        ({"n_kv_heads": 3}, ["n_kv_heads=3", "1, 2, 4"]),
        ({"backend": "cuda"}, ["backend=cuda", "triton"]),
    ],
)
def test_wrong_arguments_are_refused(kwargs, named):
    with pytest.raises(ValueError) as error:
        RoPEAttention(**{"d_model": C, "n_heads": H, **kwargs})
    assert all(text in str(error.value) for text in named), str(error.value)
