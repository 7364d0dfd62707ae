"""The GEMM that rotates, on a Hopper GPU: values, gradients, graphs, and that it was it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import inverse_frequencies, rope_qkv
from kernels.gemm.projection import can_project
from model import RoPEAttention
from oracle import rotated
from projection_cases import HEADS, PHASES, assert_equal, made, outcome

pytestmark = pytest.mark.gpu


@pytest.fixture
def projections(monkeypatch):
    """Calls of the kernel, counted; a skip where there is none."""
    x, weight = made("cuda", torch.bfloat16, width=128, head_dim=64)
    if not can_project(x, weight, *HEADS, None):
        pytest.skip("needs a Hopper GPU and a triton with Gluon")
    from kernels.gemm import gluon as gluon_projection

    calls, kernel = [], gluon_projection.project_and_rotate

    def counted(*arguments):
        calls.append(arguments)
        return kernel(*arguments)

    monkeypatch.setattr(gluon_projection, "project_and_rotate", counted)
    return calls


def errors_of_heads(outputs: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> Tensor:
    """‖y - exact‖ / ‖exact‖ of every head of q, k and v, in a row."""
    pairs = zip(outputs, exact, strict=True)
    return torch.cat(
        [((y.cpu().double() - e).norm(dim=-1) / e.norm(dim=-1)).flatten() for y, e in pairs]
    )


SHAPES = [
    ((6, 6), 384, (3, 1024)),
    ((12, 12), 768, (3, 1024)),
    ((24, 24), 1536, (3, 1024)),
    ((12, 4), 768, (3, 1024)),
    ((12, 12), 768, (3, 77)),
    ((12, 4), 768, (129, 3)),
    ((2, 2), 128, (1, 1)),
]


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("heads, width, tokens", SHAPES)
def test_values_on_a_gpu(projections, heads, width, tokens, interleaved):
    x, weight = (t.detach() for t in made("cuda", torch.bfloat16, heads, tokens, width, 64))
    options = {"interleaved": interleaved, "attention_factor": 1.2, "backend": "triton"}
    fused = rope_qkv(x, *heads, **options, weight=weight)
    assert len(projections) == 1
    apart = rope_qkv(F.linear(x, weight), *heads, **options)
    plain = F.linear(x.cpu().double(), weight.cpu().double()).unflatten(-1, (-1, 64))
    q, k, v = plain.split((heads[0], heads[1], heads[1]), dim=2)
    where = (list(range(tokens[1])), inverse_frequencies(64).tolist(), interleaved, 1.2)
    exact = (rotated(q, *where), rotated(k, *where), v)
    errors, errors_apart = errors_of_heads(fused, exact), errors_of_heads(apart, exact)
    assert errors.max() < 1e-2
    assert errors.max() <= 1.5 * errors_apart.max()
    assert errors.square().mean().sqrt() <= 1.5 * errors_apart.square().mean().sqrt()
    # One rounding to 8 bits, and float32 sums in another order.
    torch.testing.assert_close(fused[2], apart[2], rtol=2**-7, atol=1e-4)


@pytest.mark.parametrize("shifted", ["x", "weight", "transposed"])
def test_tensors_that_tma_cannot_read_on_a_gpu(projections, shifted):
    x, weight = (t.detach() for t in made("cuda", torch.bfloat16, width=128, head_dim=64))
    expected = rope_qkv(x, *HEADS, weight=weight)
    if shifted == "x":
        x = torch.cat((x.new_zeros(1), x.flatten()))[1:].view_as(x)
    elif shifted == "weight":
        weight = torch.cat((x.new_zeros(1), weight.flatten()))[1:].view_as(weight)
    else:
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert_equal(list(rope_qkv(x, *HEADS, weight=weight)), list(expected))
    assert len(projections) == 2


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_on_a_gpu(projections, autocast):
    dtype = torch.float32 if autocast else torch.bfloat16
    x, weight = made("cuda", dtype, (12, 4), (3, 77), 768, 64)
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        results = outcome(x, weight, (12, 4))
        assert len(projections) == 1
        expected = outcome(x, weight, (12, 4), apart=True)
    for result, right in zip(results, expected, strict=True):
        assert result.dtype == right.dtype
        assert (result - right).float().norm() < 1e-2 * right.float().norm()


def test_cuda_graph(projections):
    x, weight = (t.detach() for t in made("cuda", torch.bfloat16, width=128, head_dim=64))
    phases = PHASES.cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            rope_qkv(x, *HEADS, phases=phases, weight=weight)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = rope_qkv(x, *HEADS, phases=phases, weight=weight)
    for scale in (-1.5, 3):
        x.mul_(scale), weight.add_(0.01)
        graph.replay()
        assert_equal(list(results), list(rope_qkv(x, *HEADS, phases=phases, weight=weight)))
    assert len(projections) == 5


@pytest.mark.parametrize("compiled", [False, True])
def test_attention_on_a_gpu(projections, compiled):
    torch.manual_seed(0)
    arguments = {"dropout": 0.0, "causal": True, "n_kv_heads": 4}
    fused = RoPEAttention(768, 12, **arguments, fused_projection=True).cuda()
    apart = RoPEAttention(768, 12, **arguments).cuda()
    apart.load_state_dict(fused.state_dict())
    x, _ = made("cuda", tokens=(2, 256), width=768)
    results = []
    torch.compiler.reset()
    for module in (fused, apart):
        call = torch.compile(module, fullgraph=True) if compiled else module
        with torch.autocast("cuda", torch.bfloat16):
            y = call(x)
        gradients = torch.autograd.grad(y.float().square().sum(), (x, module.qkv.weight))
        results.append((y, *gradients))
    assert len(projections) == 1
    for result, right in zip(*results, strict=True):
        assert (result - right).float().norm() < 2e-2 * right.float().norm()
