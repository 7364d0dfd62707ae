"""`rope_triton_`: what `rope_triton` does, in the same memory, or a refusal; no wrong gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels import inverse_frequencies, rope_phases, rope_triton, rope_triton_
from kernels.operators import OPS
from oracle import DEVICES

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
everywhere = pytest.mark.parametrize("device", DEVICES)


def tensors(device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """q (2, 5, 4, 8) and k (2, 5, 2, 8)."""
    generator = torch.Generator().manual_seed(23)
    q = torch.randn(2, 5, 4, 8, generator=generator, dtype=torch.float64)
    k = torch.randn(2, 5, 2, 8, generator=generator, dtype=torch.float64)
    return q.to(device, dtype), k.to(device, dtype)


def options(device: str) -> dict[str, dict[str, object]]:
    """Arguments of every kind."""
    return {
        "none": {},
        "theta": {"seq_len": 5, "theta": 500.0},
        "half-split": {"interleaved": False, "attention_factor": 1.3},
        "partial": {"inv_freq": inverse_frequencies(6)},
        "phases": {"phases": rope_phases(inverse_frequencies(2)).to(device), "interleaved": False},
        "positions": {"positions": torch.tensor([3, -1, 2**40, 0, 7], device=device)},
        "offsets": {"offsets": torch.tensor([2**31 - 2, -9], dtype=torch.int32, device=device)},
    }


def assert_in_place(q: Tensor, k: Tensor, **chosen) -> None:
    """Called on q and k it gives back these very tensors, holding what rope_triton returns."""
    expected = rope_triton(q, k, **chosen)
    results = rope_triton_(q, k, **chosen)
    assert results[0] is q and results[1] is k
    assert torch.equal(q, expected[0]) and torch.equal(k, expected[1])


@everywhere
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", options("cpu"))
def test_same_bits_in_the_same_memory(device, dtype, kind):
    assert_in_place(*tensors(device, dtype), **options(device)[kind])


@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["half-split", "partial"])
def test_slices_of_a_packed_buffer(device, dtype, kind):
    q, k = tensors(device, dtype)
    packed = torch.cat((q, k, k + 1, q), dim=2)
    before = packed.clone()
    assert_in_place(packed[:, :, :4], packed[:, :, 4:6], **options(device)[kind])
    assert torch.equal(packed[:, :, 6:], before[:, :, 6:])
    assert not torch.equal(packed[:, :, :6], before[:, :, :6])
    k_first = packed.flip(2)
    assert_in_place(k_first[:, 1:, 2:6], k_first[:, 1:, ::7], **options(device)["none"])
    assert torch.equal(k_first[:, 0], packed.flip(2)[:, 0])


@everywhere
@pytest.mark.parametrize("kind", ["none", "phases"])
def test_strided_views(device, kind):
    q, k = tensors(device)
    views = {
        "transposed": (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k)),
        "D first": (x.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0) for x in (q, k)),
        "every second token": (x.repeat_interleave(2, dim=1)[:, ::2] for x in (q, k)),
        "one sequence, any stride": (x[:1].as_strided((1, 5, 2, 8), (0, 16, 8, 1)) for x in (q, k)),
    }
    for pair in views.values():
        assert_in_place(*pair, **options(device)[kind])


@everywhere
def test_segments_and_many_tokens(device):
    q, k = (torch.cat([x] * 100, dim=1)[:1] for x in tensors(device, torch.bfloat16))
    cu_seqlens = torch.tensor([0, 7, 7, 300, 500], dtype=torch.int32, device=device)
    assert_in_place(q, k, cu_seqlens=cu_seqlens, interleaved=False)


def test_nothing_to_rotate():
    for shape in ((0, 4, 2, 8), (2, 0, 2, 8)):
        assert_in_place(torch.empty(shape), torch.empty(shape))


@everywhere
def test_memory_that_is_not_its_own_is_refused(device):
    q, k = tensors(device)
    expanded = q[:1].expand(2, 5, 4, 8), q[:, :, :1].expand(2, 5, 4, 8)
    for x in expanded:
        before = x.clone()
        with pytest.raises(ValueError, match=r"q has stride .*: must not be expanded"):
            rope_triton_(x, k)
        with pytest.raises(ValueError, match=r"k has stride .*: must not be expanded"):
            rope_triton_(k, x)
        assert torch.equal(x, before)
    before = q.clone()
    shared = (q, q), (q, q.view_as(q)), (q, q[:, :, :2]), (q[:, :, :2], q[:, :, 1:3])
    for pair in (*shared, (q[:, :, 2:], q[:, :, 1:3])):
        with pytest.raises(ValueError, match="q and k are the same memory"):
            rope_triton_(*pair)
    assert torch.equal(q, before)
    rope_triton_(q[:, :, :2], q[:, :, 2:])  # neighbours
    torch.testing.assert_close(q, rope_triton(before, k)[0])


def loss_and_gradients(rotate, q: Tensor, k: Tensor, **chosen) -> tuple[Tensor, ...]:
    """Of a loss that sees q and k rotated after an operation that made them."""
    q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
    q_out, k_out = rotate(2 * q, 3 * k, **chosen)
    loss = q_out.pow(3).sum() + k_out.square().sum()
    return (loss.detach(), *torch.autograd.grad(loss, (q, k)))


@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", options("cpu"))
def test_gradients_are_those_of_rope_triton(device, dtype, kind):
    q, k = tensors(device, dtype)
    chosen = options(device)[kind]
    results, expected = (
        loss_and_gradients(rotate, q, k, **chosen) for rotate in (rope_triton_, rope_triton)
    )
    for result, right in zip(results, expected, strict=True):
        assert torch.equal(result, right)


@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", options("cpu"))
def test_gradients_are_overwritten_when_that_is_asked_for(device, dtype, kind):
    chosen = options(device)[kind]
    q, k = (x.requires_grad_() for x in tensors(device, dtype))
    upstream = [x.detach().flip(2) for x in (q, k)]
    expected = torch.autograd.grad(rope_triton(q, k, **chosen), (q, k), upstream)
    for overwrite in (False, True):
        given = [g.clone() for g in upstream]
        made = q.clone(), k.clone()
        outputs = rope_triton_(*made, **chosen, overwrite_gradients=overwrite)
        assert all(output is x for output, x in zip(outputs, made, strict=True))
        results = torch.autograd.grad(outputs, (q, k), given)
        for result, right, left, before in zip(results, expected, given, upstream, strict=True):
            assert torch.equal(result, right)
            assert torch.equal(left, right if overwrite else before)


@everywhere
def test_gradients_that_stand_for_several_are_left_alone(device):
    """Those of a sum over everything are expanded; those of q + k are one tensor."""
    q, k = tensors(device)
    losses = {
        "expanded": lambda q, k: 2 * q.sum() + k.sum(),
        "that of q": lambda q, k: q.sum() + k.pow(3).sum(),
        "that of k": lambda q, k: q.pow(3).sum() + k.sum(),
        "one tensor": lambda q, k: (q + k).pow(3).sum(),
        "slices of one": lambda q, k: torch.cat((q, k), dim=2).pow(3).sum(),
        "k is not used": lambda q, k: q.pow(3).sum(),
    }
    for name, loss in losses.items():
        leaves = [x.clone().requires_grad_() for x in (q, k if name != "one tensor" else 2 * q)]
        expected = torch.autograd.grad(loss(*rope_triton(*leaves)), leaves)
        made = [x.clone() for x in leaves]
        outputs = rope_triton_(*made, overwrite_gradients=True)
        results = torch.autograd.grad(loss(*outputs), leaves)
        for result, right in zip(results, expected, strict=True):
            assert torch.equal(result, right), name


@everywhere
def test_gradients_of_gradients_do_not_overwrite(device):
    q, k = (x[:1, :2, :1, :2].double().requires_grad_() for x in tensors(device))

    def function(q, k):
        return rope_triton_(2 * q, 3 * k, overwrite_gradients=True)

    assert torch.autograd.gradgradcheck(function, (q, k))


@everywhere
def test_gradient_of_q_alone(device):
    q, k = tensors(device)
    q.requires_grad_()
    results = []
    for rotate in (rope_triton_, rope_triton):
        loss = rotate(2 * q, k.clone())[0].pow(3).sum()
        results.append(torch.autograd.grad(loss, q)[0])
    assert torch.equal(*results)


@everywhere
def test_autograd_notices_what_was_overwritten(device):
    q, k = tensors(device)
    q = 2 * q.requires_grad_()
    loss = q.square().sum()  # its derivative wants q as it was
    rope_triton_(q, k)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    q, k = tensors(device)
    q = 2 * q.requires_grad_()
    loss = q.square().sum()
    with torch.no_grad():
        rope_triton_(q, k)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@everywhere
def test_leaves_and_views_that_require_a_gradient_are_refused(device):
    q, k = tensors(device)
    leaf = q.clone().requires_grad_()
    with pytest.raises(ValueError, match="q is a leaf that requires a gradient"):
        rope_triton_(leaf, k)
    with pytest.raises(ValueError, match="k is a leaf that requires a gradient"):
        rope_triton_(k.clone(), leaf)
    view = (2 * leaf)[:, :, :2]
    with pytest.raises(ValueError, match="q is a view that requires a gradient"):
        rope_triton_(view, k)
    with pytest.raises(ValueError, match="q is a view beside one that requires a gradient"):
        rope_triton_(q.clone()[:, :, :2], 2 * leaf)
    assert torch.equal(leaf, q)


@everywhere
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_a_parameter_and_its_views_are_rotated(device, mode):
    q, k = tensors(device)
    q, k = torch.nn.Parameter(q), torch.nn.Parameter(k)
    with torch.no_grad():
        expected = rope_triton(q, k)
        halves = rope_triton(expected[0][:, :, :2], expected[0][:, :, 2:])
    with torch.no_grad():  # inference_mode forbids any change of a parameter
        rope_triton_(q, k)
        assert torch.equal(q, expected[0]) and torch.equal(k, expected[1])
    with mode():
        copy = q.clone()
        rope_triton_(copy[:, :, :2], copy[:, :, 2:])
        assert torch.equal(copy, torch.cat(halves, dim=2))
    assert q.requires_grad and q.is_leaf


def test_func_transforms_are_right_or_raise():
    q, k = tensors("cpu")

    def loss(q, rotate):
        q_out, k_out = rotate(2 * q, 3 * k)
        return q_out.pow(3).sum() + k_out.square().sum()

    transforms = [
        lambda f: torch.func.grad(f)(q),
        lambda f: torch.func.jvp(f, (q,), (q,))[1],
        lambda f: torch.func.vmap(f)(torch.stack((q, q + 1))),
    ]
    for transform in transforms:
        expected = transform(lambda q: loss(q, rope_triton))
        try:
            result = transform(lambda q: loss(q, rope_triton_))
        except ValueError as error:
            assert "rope_triton_ under torch.func" in str(error)
        else:
            torch.testing.assert_close(result, expected)


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_in_one_graph(device, dtype):
    q, k = tensors(device, dtype)

    def function(q, k):
        packed = torch.cat((q, k, 2 * k), dim=2)
        rope_triton_(packed[:, :, :4], packed[:, :, 4:6], interleaved=False)
        return packed, packed.float().sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True)
    for scale in (1.0, 2.0):
        results, expected = (f(scale * q, scale * k) for f in (compiled, function))
        assert torch.equal(results[0], expected[0])
        torch.testing.assert_close(results[1], expected[1])


@everywhere
def test_compiled_on_its_arguments(device):
    torch._dynamo.reset()
    compiled = torch.compile(rope_triton_, fullgraph=True)
    q, k = tensors(device)
    expected = rope_triton(q, k)
    compiled(q, k)
    assert torch.equal(q, expected[0]) and torch.equal(k, expected[1])


def test_compiled_refuses_what_is_refused_in_eager():
    torch._dynamo.reset()
    q, k = tensors("cpu")
    for arguments in ((q[:1].expand(2, 5, 4, 8), k), (q, q)):
        before = q.clone()
        with pytest.raises(Exception, match=r"must not be expanded|same memory"):
            torch.compile(rope_triton_)(*arguments)
        assert torch.equal(q, before)


def test_compiled_gradients_are_right_or_raise():
    torch._dynamo.reset()
    q, k = tensors("cpu")
    expected = loss_and_gradients(rope_triton, q, k)
    try:
        results = loss_and_gradients(torch.compile(rope_triton_, fullgraph=True), q, k)
    except Exception as error:
        assert "rotate_" in str(error) or "requires a gradient" in str(error)
    else:
        torch.testing.assert_close(results, expected)


@everywhere
@pytest.mark.parametrize("kind", ["positions", "offsets", "cu_seqlens", "none"])
def test_opcheck(device, kind):
    q, k = (x[:1] for x in tensors(device))
    given = {
        "positions": torch.arange(5, device=device),
        "offsets": torch.tensor([9], device=device),
        "cu_seqlens": torch.tensor([0, 2, 5], dtype=torch.int32, device=device),
    }
    where = [given[name] if name == kind else None for name in given]
    phases = rope_phases(inverse_frequencies(4)).to(device)
    torch.library.opcheck(OPS.rotate_, (q, k, phases, *where, True, 1.5, False))


@everywhere
def test_slices_under_compiled_symbolic_shapes(device):
    """Inductor would hand both slices on as if they began where the whole does."""

    def rotate(packed: Tensor) -> tuple[Tensor, Tensor]:
        return rope_triton_(packed[:, :, 0], packed[:, :, 1])

    torch._dynamo.reset()
    packed = torch.randn(2, 5, 3, 4, 8, device=device)
    expected = packed.clone()
    results = torch.compile(rotate, fullgraph=True, dynamic=True)(packed)
    for result, right in zip(results, rotate(expected), strict=True):
        torch.testing.assert_close(result, right)
    torch.testing.assert_close(packed, expected)


def test_slices_with_heads_in_common_are_refused_under_compile():
    def rotate(packed: Tensor) -> tuple[Tensor, Tensor]:
        return rope_triton_(packed[:, :, :2], packed[:, :, 1:3])

    torch._dynamo.reset()
    with pytest.raises(ValueError, match="q and k are the same memory"):
        torch.compile(rotate, fullgraph=True, backend="aot_eager")(torch.randn(2, 5, 3, 8))
