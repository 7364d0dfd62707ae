"""Derivatives of both backends: eager, torch.func, torch.compile, and the operators' own checks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from kernels import inverse_frequencies, rope_phases, rope_pytorch, rope_triton
from kernels.operators import NAMESPACE, OPS
from oracle import DEVICES, ROPES

INV_FREQ = torch.tensor([1.0, 0.3], dtype=torch.float64)
everywhere = pytest.mark.parametrize("device", DEVICES)


def tensors(device: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """q (1, 2, 2, 6), k (1, 2, 1, 6), positions (1, 2)."""
    torch.manual_seed(3)
    q = torch.randn(1, 2, 2, 6, dtype=dtype).to(device).requires_grad_()
    k = torch.randn(1, 2, 1, 6, dtype=dtype).to(device).requires_grad_()
    return q, k, torch.tensor([[7, -100000]], device=device)


def differentiable(rope, device: str, interleaved: bool):
    """A function and the q and k to differentiate it by."""
    q, k, positions = tensors(device)

    def function(q, k):
        return rope(
            q,
            k,
            positions=positions,
            inv_freq=INV_FREQ,
            interleaved=interleaved,
            attention_factor=1.2,
        )

    return function, (q, k)


@everywhere
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("interleaved", [True, False])
def test_derivatives_in_a_random_direction(rope, device, interleaved):
    """One for all inputs together, which a derivative that is wrong anywhere is seen in."""
    function, tensors = differentiable(rope, device, interleaved)
    assert gradcheck(function, tensors, check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(function, tensors, fast_mode=True)


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("interleaved", [True, False])
def test_gradcheck_and_gradgradcheck(rope, device, interleaved):
    """By each input alone."""
    function, tensors = differentiable(rope, device, interleaved)
    assert gradcheck(function, tensors, check_forward_ad=True)
    assert gradgradcheck(function, tensors)


@everywhere
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backward_turns_back(rope, device, dtype):
    """The rotation is orthogonal: the gradient of R(m)x·g is R(-m)g."""
    torch.manual_seed(5)
    q = torch.randn(2, 9, 3, 8, device=device).to(dtype).requires_grad_()
    k = torch.randn(2, 9, 1, 8, device=device).to(dtype).requires_grad_()
    grads = torch.randn_like(q), torch.randn_like(k)
    positions = torch.arange(9, device=device) * 1000
    torch.autograd.backward(rope(q, k, positions=positions), grads)
    back = rope(*grads, positions=-positions)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(q.grad, back[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(k.grad, back[1], rtol=tolerance, atol=tolerance)


@everywhere
@pytest.mark.parametrize("rope", ROPES)
def test_only_one_of_q_and_k_may_want_a_gradient(rope, device):
    q, k, positions = tensors(device)
    alone = q.detach().clone().requires_grad_()
    rope(alone, k.detach(), positions=positions)[0].sum().backward()  # an expanded gradient
    rope(q, k, positions=positions)[0].sum().backward()  # k's result is not used
    torch.testing.assert_close(alone.grad, q.grad)
    assert k.grad is None or not k.grad.any()


def test_nothing_of_the_size_of_q_is_kept_for_the_backward():
    q = torch.randn(2, 64, 4, 32, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        rope_triton(q, q)
    assert sum(kept) == 16  # the phases


@everywhere
@pytest.mark.parametrize("rope", ROPES)
def test_checkpointing(rope, device):
    q, k, positions = tensors(device)

    def function(q, k):
        return rope(q, k, positions=positions)

    rotated = checkpoint(function, q, k, use_reentrant=False)
    grads = torch.autograd.grad(rotated[0].square().sum() + rotated[1].pow(3).sum(), (q, k))
    rotated = function(q, k)
    expected = torch.autograd.grad(rotated[0].square().sum() + rotated[1].pow(3).sum(), (q, k))
    torch.testing.assert_close(grads, expected)


def functional(rope, positions: Tensor):
    """Scalar and pair-valued functions of q and k for torch.func."""

    def rotate(q, k):
        return rope(q, k, positions=positions)

    def loss(q, k):
        q_out, k_out = rotate(q, k)
        return q_out.pow(3).sum() + k_out.square().sum()

    return rotate, loss


@everywhere
def test_func_grad_jvp_and_hessian(device):
    q, k, positions = (x.detach() for x in tensors(device))
    tangents = torch.randn_like(q), torch.randn_like(k)
    rotate, loss = functional(rope_triton, positions)
    rotate_ref, loss_ref = functional(rope_pytorch, positions)
    torch.testing.assert_close(torch.func.grad(loss)(q, k), torch.func.grad(loss_ref)(q, k))
    jvp, jvp_ref = (torch.func.jvp(f, (q, k), tangents) for f in (rotate, rotate_ref))
    torch.testing.assert_close(jvp, jvp_ref)
    _, tangent = torch.func.jvp(lambda q: rotate(q, k), (q,), tangents[:1])
    torch.testing.assert_close(tangent[0], jvp_ref[1][0])
    assert not tangent[1].any()
    hessian, hessian_ref = (torch.func.hessian(f)(q, k) for f in (loss, loss_ref))
    torch.testing.assert_close(hessian, hessian_ref)


@everywhere
@pytest.mark.parametrize("dims", [(0, None, None), (1, 0, None), (None, 2, 0), (None, None, 0)])
def test_func_vmap(device, dims):
    q, k, positions = (x.detach() for x in tensors(device))
    q, k, positions = (
        x if dim is None else torch.stack([x, x + 3, x * 2], dim)
        for x, dim in zip((q, k, positions), dims, strict=True)
    )
    results = [
        torch.func.vmap(lambda q, k, p, rope=rope: rope(q, k, positions=p), dims)(q, k, positions)
        for rope in (rope_triton, rope_pytorch)
    ]
    torch.testing.assert_close(*results)


def test_func_vmap_over_phases_raises():
    q = torch.randn(1, 2, 1, 4)
    phases = torch.ones(3, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="phases under vmap"):
        torch.func.vmap(lambda p: rope_triton(q, q, phases=p))(phases)


def loss_and_gradients(function, q: Tensor, k: Tensor) -> tuple[Tensor, ...]:
    q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
    q_out, k_out = function(q, k)
    (q_out.square().sum() + k_out.pow(3).sum()).backward()
    return q_out.detach(), k_out.detach(), q.grad, k.grad


@everywhere
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize(
    "frequencies", ["theta", pytest.param("inv_freq", marks=pytest.mark.slow), "phases"]
)
def test_compiled_in_one_graph(rope, device, frequencies):
    q, k, positions = tensors(device)
    options = {
        "theta": {"theta": 500.0},
        "inv_freq": {"inv_freq": INV_FREQ.to(device)},
        "phases": {"phases": rope_phases(INV_FREQ).to(device)},
    }[frequencies]

    def function(q, k):
        return rope(q, k, positions=positions, interleaved=False, **options)

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True)
    for scale in (1.0, 2.0):  # the second time by the graph alone
        results = loss_and_gradients(compiled, scale * q, scale * k)
        torch.testing.assert_close(results, loss_and_gradients(function, scale * q, scale * k))


@everywhere
def test_compiled_with_lengths_that_change(device):
    torch._dynamo.reset()
    compiled = torch.compile(rope_triton, fullgraph=True, dynamic=True)
    for seq_len in (3, 5):
        x = torch.randn(2, 2, seq_len, 8, device=device).transpose(1, 2)
        for y, expected in zip(compiled(x, x), rope_pytorch(x, x), strict=True):
            torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("transform", ["jvp", "grad"])
def test_compiled_transforms_are_right_or_raise(transform):
    q, k, positions = (x.detach() for x in tensors("cpu"))
    rotate, loss = functional(rope_triton, positions)
    rotate_ref, loss_ref = functional(rope_pytorch, positions)

    def jvp(f, q, k):
        return torch.func.jvp(f, (q, k), (q, k))[1]

    def grad(f, q, k):
        return torch.func.grad(f, (0, 1))(q, k)

    run, f, reference = (jvp, rotate, rotate_ref) if transform == "jvp" else (grad, loss, loss_ref)
    torch._dynamo.reset()
    try:
        result = torch.compile(lambda q, k: run(f, q, k), fullgraph=True)(q, k)
    except Exception as error:
        assert f"{NAMESPACE}.rotate" in str(error)
    else:
        torch.testing.assert_close(result, run(reference, q, k))


@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_positions", [True, False])
def test_opcheck_rotate(device, dtype, with_positions):
    q, k, positions = tensors(device, dtype)
    phases = rope_phases(inverse_frequencies(4)).to(device)
    where = (positions if with_positions else None, None, None)
    arguments = (q, k, phases, *where, True, 1.5, False)
    torch.library.opcheck(OPS.rotate, arguments)


@everywhere
def test_opcheck_phases(device):
    device = torch.device(device)
    inv_freq = INV_FREQ.to(device)
    torch.library.opcheck(OPS.phases, (inv_freq, 0, 0.0, device))
    torch.library.opcheck(OPS.phases, (None, 8, 10000.0, device))


def test_the_operator_knows_forward_mode():
    """With torch.library.register_autograd it would say that the tangent is zero."""
    q, k, _ = (x.detach() for x in tensors("cpu"))
    phases = rope_phases(INV_FREQ)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, q)
        rotated, _ = OPS.rotate(dual, k, phases, None, None, None, True, 1.0, False)
        value, tangent = torch.autograd.forward_ad.unpack_dual(rotated)
        torch.testing.assert_close(tangent, value)
