"""What only a GPU can show: more elements than 32 bits count, CUDA graphs, a second device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kernels import inverse_frequencies, rope_phases, rope_qkv, rope_triton, rope_triton_

pytestmark = pytest.mark.gpu

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 64
WIDTH = (HEADS + 2 * KV_HEADS) * HEAD_DIM


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(37)
    return torch.empty(shape, dtype=dtype, device="cuda").normal_(generator=generator)


def assert_same(results: list[Tensor], expected: list[Tensor]) -> None:
    """To the last bit."""
    for result, right in zip(results, expected, strict=True):
        assert torch.equal(result, right)


def pieces(seq_len: int, row: int) -> list[slice]:
    """Tokens at the start, around element 2^31 and at the end, of `row` elements each."""
    middle = 2**31 // row
    return [slice(0, 4), slice(middle - 2, middle + 2), slice(seq_len - 4, seq_len)]


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_a_rotation_of_more_than_2_31_elements(in_place):
    seq_len, heads, head_dim = 2**18 + 3, 64, 130
    q, k = normal(1, seq_len, heads, head_dim), normal(1, seq_len, 1, head_dim)
    assert q.numel() > 2**31
    expected = {}
    for piece in pieces(seq_len, heads * head_dim):
        at = torch.arange(piece.start, piece.stop, device="cuda")
        expected[piece.start] = rope_triton(q[:, piece], k[:, piece], positions=at)
    results = (rope_triton_ if in_place else rope_triton)(q, k)
    for piece in pieces(seq_len, heads * head_dim):
        assert_same([x[:, piece] for x in results], expected[piece.start])


@pytest.mark.slow
@pytest.mark.parametrize("with_norm", [False, True])
def test_a_projection_of_more_than_2_31_elements(with_norm):
    seq_len, heads, kv_heads, head_dim = 2**18 + 3, 64, 2, 130
    norm = normal(head_dim) if with_norm else None

    def outputs_and_gradient(qkv, positions=None, cut=slice(None)):
        qkv = qkv.detach().requires_grad_()
        outputs = rope_qkv(qkv, heads, kv_heads, positions=positions, q_norm=norm)
        torch.autograd.backward(outputs, [g[:, cut] for g in upstream])
        return [*(y.detach() for y in outputs), qkv.grad]

    qkv = normal(1, seq_len, (heads + 2 * kv_heads) * head_dim)
    upstream = [normal(1, seq_len, n, head_dim) for n in (heads, kv_heads, kv_heads)]
    assert qkv.numel() > 2**31 and upstream[0].numel() > 2**31
    results = outputs_and_gradient(qkv)
    for piece in pieces(seq_len, qkv.shape[-1]):
        at = torch.arange(piece.start, piece.stop, device="cuda")
        expected = outputs_and_gradient(qkv[:, piece], at, piece)
        assert_same([x[:, piece] for x in results], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "rotary_dim"),
    [
        (8, 8, 64, 64),
        (12, 12, 64, 64),
        (12, 1, 64, 64),
        (32, 8, 128, 128),
        (33, 1, 128, 128),
        (16, 2, 256, 64),
        (3, 3, 512, 512),
        (70, 5, 96, 80),
    ],
)
def test_many_tokens_are_rotated_as_few(dtype, interleaved, heads, kv_heads, head_dim, rotary_dim):
    """To the last bit, though their programs take other tiles."""
    seq_len, few = 1100, 100
    phases = rope_phases(inverse_frequencies(rotary_dim)).cuda()
    options = {"phases": phases, "interleaved": interleaved}
    packed = normal(2, seq_len, (heads + 2 * kv_heads) * head_dim, dtype=dtype).requires_grad_()
    q, k, v = packed.unflatten(-1, (-1, head_dim)).split((heads, kv_heads, kv_heads), dim=2)
    upstream = [x.detach().flip(1) for x in (q, k, v)]
    expected = [[], [], [], []]  # q, k and their gradients
    for start in range(0, seq_len, few):
        piece = slice(start, start + few)
        inputs = [x[:, piece] for x in (q, k)]
        at = torch.arange(start, start + few, device="cuda")
        outputs = rope_triton(*inputs, positions=at, **options)
        gradients = torch.autograd.grad(outputs, inputs, [g[:, piece] for g in upstream[:2]])
        for pieces, x in zip(expected, (*outputs, *gradients), strict=True):
            pieces.append(x.detach())
    q_out, k_out, dq, dk = (torch.cat(pieces, dim=1) for pieces in expected)

    assert_same(rope_triton(q, k, **options), [q_out, k_out])
    with torch.no_grad():
        assert_same(rope_triton_(q.clone(), k.clone(), **options), [q_out, k_out])
    outputs = rope_qkv(packed, heads, kv_heads, **options)
    assert_same(outputs, [q_out, k_out, v])
    (gradient,) = torch.autograd.grad(outputs, packed, upstream)
    assert torch.equal(gradient, torch.cat((dq, dk, upstream[2]), dim=2).flatten(-2))


def captured(function: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """The function's kernels as a graph, and the tensors that a replay fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compiles kernels, fills caches
        for _ in range(2):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph, results


def test_cuda_graph_of_a_rotation_and_its_backward():
    q, k = normal(2, 9, HEADS, HEAD_DIM), normal(2, 9, KV_HEADS, HEAD_DIM)
    q, k, offsets = q.requires_grad_(), k.requires_grad_(), torch.tensor([0, 5], device="cuda")

    def function():
        outputs = rope_triton(q, k, offsets=offsets)
        return [*outputs, *torch.autograd.grad(outputs, (q, k), (2 * q, 3 * k))]

    graph, results = captured(function)
    for _ in range(2):
        with torch.no_grad():
            q.mul_(-1.5), k.add_(1), offsets.add_(7)
        graph.replay()
        assert_same(results, function())


def test_cuda_graph_in_place():
    q, k = normal(2, 9, HEADS, HEAD_DIM), normal(2, 9, KV_HEADS, HEAD_DIM)
    positions = torch.arange(9, dtype=torch.int32, device="cuda")
    graph, _ = captured(lambda: rope_triton_(q, k, positions=positions, interleaved=False))
    for scale in (1.0, 2.0):
        q.normal_().mul_(scale), k.normal_().mul_(scale), positions.add_(1)
        expected = rope_triton(q, k, positions=positions, interleaved=False)
        graph.replay()
        assert_same([q, k], expected)


@pytest.mark.parametrize("backend", ["triton", "pytorch"])
@pytest.mark.parametrize("with_norm", [False, True])
def test_cuda_graph_of_a_projection_and_its_backward(backend, with_norm):
    qkv = normal(1, 9, WIDTH).requires_grad_()
    cu_seqlens = torch.tensor([0, 4, 9], device="cuda")
    norm = normal(HEAD_DIM, dtype=torch.float32).requires_grad_() if with_norm else None
    inputs = [qkv] if norm is None else [qkv, norm]
    upstream = [normal(1, 9, n, HEAD_DIM) for n in (HEADS, KV_HEADS, KV_HEADS)]

    def function():
        options = {"cu_seqlens": cu_seqlens, "k_norm": norm, "backend": backend}
        outputs = rope_qkv(qkv, HEADS, KV_HEADS, **options)
        return [*outputs, *torch.autograd.grad(outputs, inputs, upstream)]

    graph, results = captured(function)
    for boundary in (2, 7):
        with torch.no_grad():
            qkv.mul_(-1.5), cu_seqlens[1].fill_(boundary)
        graph.replay()
        assert_same(results, function())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_tensors_of_a_device_that_is_not_the_current_one():
    qkv = normal(2, 9, WIDTH)
    expected = rope_qkv(qkv, HEADS, KV_HEADS)
    assert torch.cuda.current_device() == 0
    results = rope_qkv(qkv.to("cuda:1"), HEADS, KV_HEADS)
    assert results[0].device == torch.device("cuda:1")
    assert_same([y.cpu() for y in results], [y.cpu() for y in expected])
    assert torch.cuda.current_device() == 0
