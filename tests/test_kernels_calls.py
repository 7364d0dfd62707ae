"""What a call leaves behind for the next, and callers of other kinds: threads, fake tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from oracle import DEVICES, ROPES
from torch._subclasses import FakeTensorMode

from kernels import BACKENDS, rope_pytorch, rope_qkv, rope_triton, rope_triton_
from model import Transformer, TransformerConfig

everywhere = pytest.mark.parametrize("device", DEVICES)


@everywhere
def test_what_vmap_saw_is_not_taken_for_a_plain_call(device):
    x = torch.randn(1, 4, 2, 8, 3, device=device)
    torch.func.vmap(lambda q: rope_triton(q, q), in_dims=-1)(x)
    one = x[..., 0]  # of the strides that vmap's q had
    for y, expected in zip(rope_triton(one, one), rope_pytorch(one, one), strict=True):
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("rope", ROPES)
def test_what_cannot_be_kept_is_refused(rope):
    q = torch.randn(1, 3, 2, 4)
    with pytest.raises(ValueError, match=r"seq_len=\[3\]: must be that of q and k"):
        rope(q, q, [3])
    for theta in (torch.tensor(500.0), "a"):
        with pytest.raises(ValueError, match=r"theta=.*: must be a positive finite number"):
            rope(q, q, theta=theta)


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
