"""`rope_qkv` with the projection's weight: the same numbers, by one GEMM where there is one."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor

import kernels.gemm.projection
import kernels.rope.qkv
from kernels import BACKENDS, inverse_frequencies, rope_phases, rope_qkv
from kernels.gemm.projection import can_project
from kernels.operators import OPS
from model import RoPEAttention
from oracle import DEVICES
from projection_cases import HEADS, PHASES, assert_equal, made, outcome

everywhere = pytest.mark.parametrize("device", DEVICES)
both = pytest.mark.parametrize("backend", BACKENDS)
pairings = pytest.mark.parametrize("interleaved", [True, False])


@pytest.fixture
def by_one_operator(monkeypatch):
    """The operator `project` for whatever comes: on a CPU it is F.linear and the Triton kernel."""
    monkeypatch.setattr(kernels.rope.qkv, "can_project", lambda *_: True)


# By F.linear and the rotation, where no kernel does both


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("norm", [False, True])
def test_a_weight_is_f_linear_first(backend, dtype, norm):
    x, weight = made(dtype=dtype)
    options = {"backend": backend, "q_norm": torch.linspace(0.5, 2, 8) if norm else None}
    options |= {"offsets": torch.tensor([3, 9])} if norm else {"theta": 100.0}
    assert_equal(outcome(x, weight, **options), outcome(x, weight, **options, apart=True))


@both
@pytest.mark.parametrize("forced", [False, True])
def test_autocast_casts_both(backend, forced, request):
    if forced:
        request.getfixturevalue("by_one_operator")
    x, weight = made()
    expected = outcome(*(t.bfloat16() for t in (x, weight)), backend=backend, apart=True)
    with torch.autocast("cpu", torch.bfloat16):
        results = outcome(x, weight, backend=backend)
    assert [y.dtype for y in results[3:]] == [torch.float32] * 2
    assert_equal([y.to(torch.bfloat16) for y in results], expected)


# The operator


@pairings
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_operator_gives_the_same(by_one_operator, interleaved, dtype):
    x, weight = made(dtype=dtype)
    options = {"backend": "triton", "interleaved": interleaved, "attention_factor": 1.2}
    expected = outcome(x, weight, **options, apart=True)
    results = outcome(x, weight, **options)
    memory = {y.untyped_storage().data_ptr() for y in results[:3]}
    assert len(memory) == 1 and memory.isdisjoint({y.data_ptr() for y in expected[:3]})
    assert_equal(results, expected)


def assert_derivatives(fast_mode: bool) -> None:
    x, weight = made(dtype=torch.float64, heads=(2, 1), tokens=(1, 3), width=3, head_dim=4)
    arguments = {"backend": "triton", "interleaved": False, "attention_factor": 1.2}

    def function(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return rope_qkv(x, 2, 1, **arguments, weight=weight)

    assert torch.autograd.gradcheck(function, (x, weight), fast_mode=fast_mode)
    assert torch.autograd.gradgradcheck(function, (x, weight), fast_mode=fast_mode)


def test_derivatives_of_the_operator_in_a_random_direction(by_one_operator):
    """One for all inputs together, which a derivative that is wrong anywhere is seen in."""
    assert_derivatives(fast_mode=True)


@pytest.mark.slow
def test_second_derivatives_of_the_operator(by_one_operator):
    """By each input alone."""
    assert_derivatives(fast_mode=False)


@pytest.mark.parametrize("frozen", [0, 1])
def test_no_gradient_for_what_wants_none(by_one_operator, frozen):
    tensors = made()
    tensors[frozen].requires_grad_(False)
    sum(
        y.sum() for y in rope_qkv(tensors[0], *HEADS, backend="triton", weight=tensors[1])
    ).backward()
    assert tensors[frozen].grad is None and tensors[1 - frozen].grad.any()


def test_norms_and_positions_leave_the_operator_out(by_one_operator, monkeypatch):
    monkeypatch.setattr(kernels.rope.qkv, "project", None)
    x, weight = made()
    options = {"backend": "triton", "weight": weight}
    rope_qkv(x, *HEADS, q_norm=torch.ones(8), **options)
    rope_qkv(x, *HEADS, positions=torch.arange(5), **options)
    rope_qkv(x, *HEADS, offsets=torch.arange(2), **options)
    rope_qkv(x, *HEADS, backend="pytorch", weight=weight)
    with pytest.raises(TypeError):
        rope_qkv(x, *HEADS, **options)


@pytest.mark.slow
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_under_compile(forced, autocast, request):
    if forced:
        request.getfixturevalue("by_one_operator")
    x, weight = made()
    phases = rope_phases(inverse_frequencies(8))
    context = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()

    def function(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return rope_qkv(x, *HEADS, phases=phases, backend="triton", weight=weight)

    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True)
    with context:
        expected = outcome(x, weight, phases=phases, backend="triton", apart=True)
        outputs = compiled(x, weight)
    upstream = [torch.linspace(-1, 1, y.numel()).view_as(y).to(y) for y in outputs]
    results = [*outputs, *torch.autograd.grad(outputs, (x, weight), upstream)]
    assert_equal(results, expected, exactly=False)


def test_what_a_gpu_has_is_a_constant_of_a_graph(monkeypatch):
    calls = []
    monkeypatch.setattr(
        kernels.gemm.projection, "_looked_up", lambda device: not calls.append(device)
    )
    torch.compiler.reset()
    compiled = torch.compile(
        lambda x: x + 1 if kernels.gemm.projection._has_kernel(x.dim()) else x, fullgraph=True
    )
    assert torch.equal(compiled(torch.zeros(3)), torch.ones(3)) and calls == [1]


@everywhere
@pairings
def test_opcheck(device, interleaved):
    width, head_dim = (128, 64) if device == "cuda" else (12, 8)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    x, weight = made(device, dtype, width=width, head_dim=head_dim)
    x, weight = x.detach(), weight.detach()
    if device == "cuda" and not can_project(x, weight, *HEADS, None):
        pytest.skip("needs a Hopper GPU and a triton with Gluon")
    phases = rope_phases(inverse_frequencies(head_dim)).to(device)
    arguments = (x, weight, phases, *HEADS, interleaved, 1.5)
    torch.library.opcheck(OPS.project, arguments)


# What is refused, and what no kernel takes


@both
@pytest.mark.parametrize(
    "weight, message",
    [
        ("weight", "weight is str: must be a tensor"),
        (torch.zeros(64), r"weight has shape \(64,\): must be \(\(n_heads \+ 2 n_kv_heads\)"),
        (torch.zeros(64, 8), r"weight has shape \(64, 8\): its last dimension must be that of x"),
        (torch.zeros(63, 12), r"weight has shape \(63, 12\): its first dimension must be a"),
        (torch.zeros(72, 12), r"head_dim=9: must be even"),
        (torch.zeros(64, 12).double(), "weight is torch.float64 and x is torch.float32: must be"),
        (torch.zeros(64, 12).int(), "weight is torch.int32: must be float64"),
        (torch.zeros(64, 12, device="meta"), "weight is on meta: must be on x.s device"),
    ],
)
def test_bad_weights(backend, weight, message):
    with pytest.raises(ValueError, match=message):
        rope_qkv(torch.zeros(2, 5, 12), *HEADS, backend=backend, weight=weight)


def test_bad_counts_and_bad_options(by_one_operator):
    x, weight = (t.detach() for t in made())
    for mistake in ({"seq_len": 4}, {"attention_factor": float("nan")}, {"phases": "none"}):
        with pytest.raises(ValueError, match=next(iter(mistake))):
            rope_qkv(x, *HEADS, weight=weight, backend="triton", **mistake)
    with pytest.raises(ValueError, match="n_kv_heads=0: must be a positive integer"):
        rope_qkv(x, 8, 0, weight=weight)


def test_what_the_kernel_takes(monkeypatch):
    """Of tensors that only say that they are on a GPU."""
    monkeypatch.setattr(kernels.gemm.projection, "_has_kernel", lambda device: True)

    class OnGpu(Tensor):
        device = torch.device("cuda", 0)

    def takes(heads=(4, 2), width=128, head_dim=64, dtype=torch.bfloat16, frequencies=PHASES):
        x, weight = made(dtype=dtype, heads=heads, width=width, head_dim=head_dim)
        return can_project(x.detach().as_subclass(OnGpu), weight, *heads, frequencies)

    assert takes() and takes(frequencies=None) and takes(heads=(12, 12), width=768)
    assert not can_project(*made(dtype=torch.bfloat16, width=128, head_dim=64), 4, 2, None)
    assert not takes(heads=(3, 2)) and not takes(heads=(2, 1))
    assert not takes(width=64) and not takes(width=160)
    assert not takes(head_dim=128) and not takes(dtype=torch.float16)
    assert not takes(frequencies=PHASES[:16])


def compiled_for_hopper(interleaved: bool):
    """The kernel, compiled without a GPU; a skip where this triton cannot."""
    triton = pytest.importorskip("triton")
    try:
        from kernels.gemm.gluon import gl, projection_kernel
    except (ImportError, AttributeError) as error:
        pytest.skip(f"this triton has no such Gluon: {error}")
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    numbers = ["n_tiles", "n_columns", "n_steps", "seq_len", "rotated"]
    signature = {
        "x_desc": f"tensordesc<bf16[128, 64],{layout!r}>",
        "weight_desc": f"tensordesc<bf16[128, 64],{layout!r}>",
        "out_desc": f"tensordesc<bf16[64, 64],{layout!r}>",
        "phases_ptr": "*i64",
        **dict.fromkeys(numbers, "i32"),
        "factor": "fp32",
        "INTERLEAVED": "constexpr",
    }
    source = GluonASTSource(projection_kernel, signature, {(10,): interleaved})
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})


@pairings
def test_the_kernel_compiles_for_a_gpu_on_a_machine_without_one(interleaved):
    compiled = compiled_for_hopper(interleaved)
    assert "wgmma.mma_async" in compiled.asm["ptx"]
    assert compiled.metadata.shared <= 232448  # bytes that a program may have on Hopper


# The model's switch


@both
def test_attention_with_the_switch_is_the_same_elsewhere(backend):
    torch.manual_seed(0)
    arguments = {"dropout": 0.0, "n_kv_heads": 2, "backend": backend}
    fused = RoPEAttention(32, 4, **arguments, fused_projection=True)
    apart = RoPEAttention(32, 4, **arguments)
    apart.load_state_dict(fused.state_dict())
    x = torch.randn(2, 5, 32)
    assert torch.equal(fused(x), apart(x))
    positions = torch.arange(3, 8)
    assert torch.equal(fused(x, positions=positions), apart(x, positions=positions))
