"""What a call leaves behind for the next, and callers of other kinds: threads, fake tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch._subclasses import FakeTensorMode

from kernels import BACKENDS, rope_pytorch, rope_qkv, rope_triton, rope_triton_
from model import Transformer, TransformerConfig
from oracle import DEVICES, ROPES

everywhere = pytest.mark.parametrize("device", DEVICES)


@everywhere
def test_what_vmap_saw_is_not_taken_for_a_plain_call(device):
    x = torch.randn(1, 4, 2, 8, 3, device=device)
    torch.func.vmap(lambda q: rope_triton(q, q), in_dims=-1)(x)
    one = x[..., 0]  # of the strides that vmap's q had
    for y, expected in zip(rope_triton(one, one), rope_pytorch(one, one), strict=True):
        torch.testing.assert_close(y, expected)


@everywhere
@pytest.mark.parametrize("rope", ROPES)
def test_what_cannot_be_kept_is_refused(rope, device):
    q = torch.randn(1, 3, 2, 4, device=device)
    with pytest.raises(ValueError, match=r"seq_len=\[3\]: must be that of q and k"):
        rope(q, q, [3])
    for theta in (torch.tensor(500.0), "a"):
        with pytest.raises(ValueError, match=r"theta=.*: must be a positive finite number"):
            rope(q, q, theta=theta)
    with pytest.raises(ValueError, match=r"seq_len=3: must be that of q and k, 3, or None"):
        rope(q, q, torch.tensor(3))  # it could change without a trace


@pytest.mark.parametrize("rope", ROPES)
def test_a_negative_that_is_only_noted_is_seen(rope):
    x = torch.randn(1, 3, 2, 4, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    torch.testing.assert_close(rope(x, x)[0], rope(x.clone(), x.clone())[0])
    backend = "triton" if rope is rope_triton else "pytorch"
    packed = torch.randn(1, 3, 4 * 4, dtype=torch.complex64).conj().imag
    results = [rope_qkv(p, 2, 1, backend=backend) for p in (packed, packed.clone())]
    for y, expected in zip(*results, strict=True):
        torch.testing.assert_close(y, expected)


@everywhere
def test_a_gradient_whose_negative_is_only_noted_is_seen(device):
    options = {"dtype": torch.float64, "device": device}
    x = torch.randn(1, 3, 2, 4, **options)
    packed = torch.randn(1, 3, 4 * 4, **options)
    rotations = {
        "rope_pytorch": lambda q, k: rope_pytorch(q, k),
        "rope_triton": lambda q, k: rope_triton(q, k),
        "in place": lambda q, k: rope_triton_(q.clone(), k.clone()),
        "both ways": lambda q, k: rope_triton_(q.clone(), k.clone(), overwrite_gradients=True),
    }
    expected = None
    for name, rotate in rotations.items():
        q, k = x.clone().requires_grad_(), x.flip(1).requires_grad_()
        q_out, k_out = rotate(q, k)
        results = torch.autograd.grad(loss_of_conjugates(q_out, k_out), (q, k))
        expected = results if expected is None else expected
        torch.testing.assert_close(results, expected, msg=name)
    for norm in (None, torch.rand(4, **options)):
        results = []
        for backend in ("pytorch", "triton"):
            leaf = packed.clone().requires_grad_()
            q, k, v = rope_qkv(leaf, 2, 1, q_norm=norm, backend=backend)
            loss = loss_of_conjugates(q[:, :, :1], k) + loss_of_conjugates(v, v + 1)
            results.append(torch.autograd.grad(loss, leaf)[0])
        torch.testing.assert_close(*results)


def loss_of_conjugates(real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
    """Its gradient for `imaginary` is the negative of what lies in memory."""
    z = torch.complex(real, imaginary).conj()
    return (z * (1 + 2j)).real.pow(3).sum()


@everywhere
def test_a_tensor_that_outlived_a_transform_is_rotated(device):
    escaped = []

    def function(q):
        escaped.append(q * 2)
        return q.sum()

    q = torch.randn(1, 3, 2, 4, device=device)
    torch.func.grad(function)(q)
    k = torch.randn(1, 3, 2, 4, device=device, requires_grad=True)
    expected = rope_pytorch(2 * q, 1 * k)
    torch.testing.assert_close(rope_triton(escaped[0], k), expected)
    torch.testing.assert_close(rope_triton_(escaped[0], 1 * k), expected)


def test_threads_do_not_disturb_each_other():
    q = torch.randn(1, 3, 2, 4)
    expected = rope_pytorch(q, q)[0]
    with ThreadPoolExecutor(3) as pool:
        for y, _ in pool.map(lambda _: rope_triton(q, q), range(30)):
            torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_fake_tensors_go_through_a_model(backend):
    sizes = {"n_layers": 1, "d_model": 32, "n_heads": 2, "qk_norm": True}
    with FakeTensorMode(allow_non_fake_inputs=True):  # digits of pi are kept as they are
        net = Transformer(TransformerConfig(**sizes, backend=backend))
        logits = net(torch.zeros(2, 5, dtype=torch.int64))
        logits.sum().backward()
        q = torch.empty(1, 3, 2, 4)
        assert rope_triton_(q, torch.empty(1, 3, 1, 4))[0] is q
    assert logits.shape == (2, 5, 256)
