"""Derivatives of `rope_qkv`: of any order, under torch.func, torch.compile, checkpoints."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from kernels import BACKENDS, rope_qkv
from oracle import DEVICES
from packed_oracle import (
    Case,
    Inputs,
    assert_right,
    exact,
    function_of,
    in_float64,
    made,
    output_gradients,
    run,
)

everywhere = pytest.mark.parametrize("device", DEVICES)
both = pytest.mark.parametrize("backend", BACKENDS)


def outputs_and_gradients(function, inputs: Inputs) -> tuple[Tensor, ...]:
    outputs = function(*inputs.given())
    return (*outputs, *torch.autograd.grad(outputs, inputs.given(), output_gradients(outputs)))


@everywhere
@both
@pytest.mark.parametrize("norms", ["", "q", "qk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_that_will_be_differentiated_is_as_accurate(backend, device, dtype, norms):
    case = Case(norms=norms, where="offsets", interleaved=False)
    inputs = made(case, device, dtype, torch.float32)
    assert_right(case, inputs, run(case, inputs, backend), create_graph=True)


@everywhere
@both
def test_the_same_twice(backend, device):
    case = Case(batch=3, seq_len=307)
    inputs = made(case, device, torch.bfloat16, torch.float32)
    function = function_of(case, inputs, backend)
    runs = (outputs_and_gradients(function, inputs) for _ in range(2))
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@everywhere
@both
@pytest.mark.parametrize("norms", ["", "q", "qk"])
@pytest.mark.parametrize("used", [[0], [1], [2], [0, 2]])
def test_a_loss_of_some_outputs_only(backend, device, norms, used):
    case = Case(norms=norms, batch=1, seq_len=3)
    inputs = made(case, device, torch.float32)
    expected_inputs = in_float64(inputs)
    results, expected = (
        torch.autograd.grad(
            sum(outputs[i].pow(3).sum() for i in used), given.given(), allow_unused=True
        )
        for outputs, given in (
            (run(case, inputs, backend), inputs),
            (exact(case, expected_inputs), expected_inputs),
        )
    )
    for result, right in zip(results, expected, strict=True):
        if result is None or right is None:  # a gradient of zeros may be said in either way
            assert result is None or not result.any()
            assert right is None or not right.any()
        else:
            torch.testing.assert_close(result.cpu().double(), right, rtol=1e-5, atol=1e-4)


@everywhere
@both
@pytest.mark.parametrize("frozen", [["qkv"], ["q_norm"], ["q_norm", "k_norm"]])
def test_only_some_inputs_want_a_gradient(backend, device, frozen):
    case = Case()
    inputs = made(case, device, torch.float32)
    some = inputs._replace(**{name: getattr(inputs, name).detach() for name in frozen})
    wanted = [name for name in Inputs._fields if name not in frozen]
    results = []
    for given in (inputs, some):
        outputs = run(case, given, backend)[:2]  # v is a constant where qkv is one
        leaves = [getattr(given, name) for name in wanted]
        results.append(torch.autograd.grad(outputs, leaves, output_gradients(outputs)))
    torch.testing.assert_close(*results)


@everywhere
@both
@pytest.mark.parametrize(
    "case",
    [
        Case((2, 1), 4, 4, 1, 2, "", factor=1.2),
        pytest.param(
            Case((2, 1), 6, 4, 1, 2, "q", interleaved=False, where="positions"),
            marks=pytest.mark.slow,
        ),
        pytest.param(Case((2, 1), 4, 4, 1, 2, "k", where="offsets"), marks=pytest.mark.slow),
        Case((2, 1), 6, 4, 2, 2, "qk", factor=1.2, layout="transposed"),
    ],
)
def test_gradcheck_and_gradgradcheck(backend, device, case):
    inputs = made(case, device, torch.float64)
    function = function_of(case, inputs, backend)
    assert gradcheck(function, inputs.given(), check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(function, inputs.given(), fast_mode=True)


@everywhere
@pytest.mark.parametrize("norms", ["", "q", "qk"])
def test_func_grad_jvp_and_vmap(device, norms):
    case = Case(norms=norms, heads=(2, 1), where="offsets", head_dim=6, rotary_dim=4)
    inputs = made(case, device, torch.float32).detached()
    given = tuple(inputs.given())
    tangents = tuple(torch.cos(3 * x) for x in given)
    batched = torch.stack((inputs.qkv, 2 * inputs.qkv), 1), *given[1:]
    dims = 1, *[None] * (len(given) - 1)

    def transforms(backend):
        apply = function_of(case, inputs, backend)
        gradient = torch.func.grad(
            lambda *given: sum(y.pow(3).sum() for y in apply(*given)), tuple(range(len(given)))
        )
        return [
            *gradient(*given),
            *torch.func.jvp(apply, given, tangents)[1],
            *torch.func.vmap(apply, dims)(*batched),
            *torch.func.vmap(gradient, dims)(*batched),
        ]

    torch.testing.assert_close(transforms("triton"), transforms("pytorch"), rtol=1e-4, atol=1e-4)


@everywhere
@both
def test_checkpointing(backend, device):
    case = Case(norms="q")
    inputs = made(case, device, torch.float32)
    function = function_of(case, inputs, backend)
    results = outputs_and_gradients(
        lambda *given: checkpoint(function, *given, use_reentrant=False), inputs
    )
    for result, right in zip(results, outputs_and_gradients(function, inputs), strict=True):
        assert torch.equal(result, right)


@everywhere
@both
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(where="offsets", head_dim=10, rotary_dim=6), marks=pytest.mark.slow),
        Case(norms="", where="cu_seqlens", batch=1, layout="transposed", interleaved=False),
    ],
)
def test_compiled_in_one_graph(backend, device, case):
    inputs = made(case, device, torch.float32)
    function = function_of(case, inputs, backend)
    torch._dynamo.reset()
    results = outputs_and_gradients(torch.compile(function, fullgraph=True), inputs)
    torch.testing.assert_close(results, outputs_and_gradients(function, inputs))


@everywhere
@pytest.mark.parametrize("norms", ["", "q", "qk"])
def test_what_is_kept_for_the_backward(device, norms):
    """Nothing of q's size without a norm, with one the projection itself and no copy of it."""
    case = Case(norms=norms, seq_len=40, head_dim=16, rotary_dim=16)
    inputs = made(case, device, torch.float32)
    kept = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = run(case, inputs, "triton")
    of_qkv = kept.pop(inputs.qkv.untyped_storage().data_ptr(), 0)
    assert (of_qkv > 0) == bool(norms)
    assert sum(kept.values()) < outputs[0].nbytes / 8


@pytest.mark.parametrize("transform", ["grad", "jvp", "dual"])
def test_compiled_transforms_are_right_or_raise(transform):
    """Never a silent zero."""
    qkv = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(1))

    def loss(qkv, backend):
        return sum(y.pow(3).sum() for y in rope_qkv(qkv, 2, 1, backend=backend))

    def transformed(qkv, backend):
        if transform == "grad":
            return torch.func.grad(loss)(qkv, backend)
        if transform == "jvp":
            return torch.func.jvp(lambda x: loss(x, backend), (qkv,), (qkv,))[1]
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(qkv, qkv)
            return torch.autograd.forward_ad.unpack_dual(loss(dual, backend)).tangent

    torch._dynamo.reset()
    expected = transformed(qkv, "pytorch")
    torch.testing.assert_close(transformed(qkv, "triton"), expected)
    try:
        result = torch.compile(lambda x: transformed(x, "triton"), fullgraph=True)(qkv)
    except Exception as error:
        assert "ropewalk" in str(error)
    else:
        torch.testing.assert_close(result, expected)
