"""`rope_qkv` against the same computation written out in float64: values, gradients, memory."""

from __future__ import annotations

import pytest
import torch

from kernels import BACKENDS, inverse_frequencies, rope_phases, rope_qkv, rope_triton
from oracle import DEVICES
from packed_oracle import (
    Case,
    assert_right,
    assert_rounded_once,
    exact,
    in_float64,
    made,
    norm_of_heads,
    output_gradients,
    run,
)

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CASES = {
    "plain": Case(norms=""),
    "half-split": Case(norms="", interleaved=False),
    "norms": Case(),
    "norms, half-split": Case(interleaved=False, factor=1.2),
    "norm of q": Case(norms="q", heads=(3, 1)),
    "norm of k": Case(norms="k", heads=(2, 2), interleaved=False),
    "partial": Case(norms="", head_dim=10, rotary_dim=6, heads=(3, 1)),
    "partial, norms": Case(head_dim=10, rotary_dim=6, heads=(3, 1)),
    "partial, half-split": Case(head_dim=24, rotary_dim=6, interleaved=False),
    "no power of two": Case(head_dim=24, rotary_dim=24, heads=(3, 1), factor=0.9),
    "odd everything": Case(head_dim=10, rotary_dim=2, heads=(5, 1), batch=3, seq_len=3),
    "positions": Case(where="positions"),
    "positions, plain": Case(where="positions", norms="", interleaved=False, factor=1.1),
    "offsets": Case(where="offsets", heads=(3, 1), interleaved=False),
    "offsets, plain": Case(where="offsets", norms="", batch=3),
    "segments": Case(where="cu_seqlens", batch=1, seq_len=7),
    "segments, plain": Case(where="cu_seqlens", batch=1, norms="", head_dim=10, rotary_dim=6),
    "decoding": Case(where="offsets", batch=3, seq_len=1),
    "slice of a projection": Case(layout="slice"),
    "slice, plain": Case(layout="slice", norms="", interleaved=False),
    "transposed": Case(layout="transposed", head_dim=10, rotary_dim=6),
    "transposed, plain": Case(layout="transposed", norms=""),
}
everywhere = pytest.mark.parametrize("device", DEVICES)
both = pytest.mark.parametrize("backend", BACKENDS)


@everywhere
@both
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_and_gradients(backend, device, dtype, case):
    inputs = made(case, device, dtype)
    before = inputs.qkv.clone()
    assert_right(case, inputs, run(case, inputs, backend))
    assert torch.equal(inputs.qkv, before)


@everywhere
@both
@pytest.mark.parametrize("interleaved", [True, False])
def test_many_tokens(backend, device, interleaved):
    """Several programs and a last one that is not full; the sum over tokens is a long one."""
    case = Case(batch=3, seq_len=307, head_dim=10, rotary_dim=6, interleaved=interleaved)
    inputs = made(case, device, torch.float32)
    assert_right(case, inputs, run(case, inputs, backend))


@everywhere
@both
@pytest.mark.parametrize(
    "data, norms",
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.bfloat16),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
    ],
)
def test_norms_of_another_dtype_than_the_data(backend, device, data, norms):
    case = Case()
    inputs = made(case, device, data, norms)
    assert_right(case, inputs, run(case, inputs, backend))


@everywhere
@both
def test_autocast_changes_nothing(backend, device):
    case = Case()
    inputs = made(case, device, torch.float32)
    expected = run(case, inputs, backend)
    with torch.autocast(device, torch.bfloat16):
        outputs = run(case, inputs, backend)
    for y, right in zip(outputs, expected, strict=True):
        assert torch.equal(y, right)


@everywhere
@both
@pytest.mark.parametrize("norms", ["", "qk"])
def test_v_is_a_view_and_q_and_k_are_not(backend, device, norms):
    case = Case(norms=norms)
    inputs = made(case, device, torch.float32)
    version = inputs.qkv._version
    q, k, v = run(case, inputs, backend)
    memory = inputs.qkv.untyped_storage().data_ptr()
    assert v.untyped_storage().data_ptr() == memory
    assert memory not in (q.untyped_storage().data_ptr(), k.untyped_storage().data_ptr())
    assert inputs.qkv._version == version
    with torch.no_grad():
        last = case.width - case.heads[1] * case.head_dim
        assert v.data_ptr() == inputs.qkv[..., last:].data_ptr()
        assert v.shape == k.shape


@both
def test_frequencies_and_lengths_are_said_as_to_the_rotation(backend):
    case = Case(norms="")
    inputs = made(case, "cpu", torch.float32)
    inv_freq = inverse_frequencies(8, 500.0)
    expected = rope_qkv(inputs.qkv, 4, 2, case.seq_len, 500.0, backend=backend)
    for option in ({"inv_freq": inv_freq}, {"phases": rope_phases(inv_freq)}):
        for y, right in zip(
            rope_qkv(inputs.qkv, 4, 2, **option, backend=backend), expected, strict=True
        ):
            assert torch.equal(y, right)


@everywhere
def test_without_norms_it_is_rope_triton_on_slices(device):
    case = Case(norms="", where="offsets", factor=1.1)
    inputs = made(case, device, torch.bfloat16)
    q, k, v = inputs.qkv.unflatten(-1, (-1, case.head_dim)).split((4, 2, 2), dim=2)
    options = case.placement(device) | {"attention_factor": 1.1}
    outputs = rope_qkv(inputs.qkv, 4, 2, **options, backend="triton")
    for y, right in zip(outputs, (*rope_triton(q, k, **options), v), strict=True):
        assert torch.equal(y, right)


@both
@pytest.mark.parametrize("norms", ["", "qk"])
@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_empty_tensors(backend, norms, shape):
    case = Case(norms=norms, batch=shape[0], seq_len=shape[1])
    inputs = made(case, "cpu", torch.float32)
    outputs = run(case, inputs, backend)
    assert [y.shape[:2] for y in outputs] == [shape] * 3
    for grad, x in zip(
        torch.autograd.grad(outputs, inputs.given(), output_gradients(outputs)),
        inputs.given(),
        strict=True,
    ):
        assert grad.shape == x.shape and not grad.any()


@both
def test_a_head_of_zeros_and_one_of_huge_numbers(backend):
    """eps keeps the first finite; the square of the second is past float16 and bfloat16."""
    for dtype in (torch.bfloat16, torch.float16):
        case = Case(heads=(1, 1), batch=1, seq_len=2)
        inputs = made(case, "cpu", dtype, torch.float32)
        with torch.no_grad():
            inputs.qkv[0, 0, :8] = 0
            inputs.qkv[0, 1, :8] = 60000
        outputs = run(case, inputs, backend)
        for y, right in zip(outputs, exact(case, in_float64(inputs)), strict=True):
            assert_rounded_once(y, right, norm_of_heads(right, case.head_dim), dtype)
        grads = torch.autograd.grad(outputs, inputs, output_gradients(outputs))
        assert all(torch.isfinite(grad).all() for grad in grads)
