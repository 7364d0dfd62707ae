"""Ways to rotate, and the exact rotation that they are checked against."""

import pytest
import torch

from benchmarks import Bench, PartProgress
from benchmarks.clocks import WallClock
from benchmarks.exact_rotation import exact_cos_sin
from benchmarks.peers import PEERS, Peer
from benchmarks.rotation_error import greatest_error
from benchmarks.shapes import Shape
from kernels import inverse_frequencies, rope_pytorch
from oracle import cos_sin

CPU = torch.device("cpu")
SMALL = [
    Shape(2, 24, 4, 2, 16, torch.float32),
    Shape(2, 24, 2, 2, 16, torch.float32, rotary_dim=8),
    Shape(8, 1, 4, 2, 16, torch.float32),
]


def bench_on_cpu(rounds: int = 2) -> Bench:
    progress = PartProgress().part("test")
    return Bench(CPU, WallClock(), rounds, 0, progress)


@pytest.mark.parametrize("shape", SMALL, ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", ["ropewalk", "ropewalk-half-split", "pytorch", "table"])
def test_peer_rotates_as_rope_pytorch_does(name: str, shape: Shape) -> None:
    peer = PEERS[name]
    assert peer.refusal(shape, CPU) is None
    q, k = shape.tensors(CPU, seed=1)
    rotated = [peer.restore(y) for y in peer.prepare(shape, CPU)(peer.arrange(q), peer.arrange(k))]
    inv_freq = inverse_frequencies(shape.rotated)
    kwargs = {"positions": shape.positions(CPU), "inv_freq": inv_freq}
    expected = rope_pytorch(q, k, interleaved=peer.interleaved, **kwargs)
    tolerance = 2e-3 if shape.seq_len == 1 and name == "table" else 1e-5  # its angles are float32
    for y, exact in zip(rotated, expected, strict=True):
        torch.testing.assert_close(y, exact, atol=tolerance, rtol=0)
    assert greatest_error(shape, peer, bench_on_cpu()) < tolerance


@pytest.mark.parametrize("layout", ["BSHD", "BHSD view", "BHSD"])
def test_layouts_are_undone(layout: str) -> None:
    x = torch.randn(2, 3, 4, 6)
    for in_place in (False, True):
        peer = Peer("", PEERS["copy"].prepare, None, layout=layout, in_place=in_place)
        assert torch.equal(peer.restore(peer.arrange(x)), x)
        assert peer.arrange(x).is_contiguous() == (layout != "BHSD view")
    peer.arrange(x).zero_()  # whoever rotates in place has a copy of its own
    assert x.abs().sum() > 0


def test_a_result_that_is_no_number_is_no_small_error() -> None:
    peer = Peer("", lambda *_: lambda q, k: (q * torch.nan, k * torch.nan), True)
    with pytest.raises(ValueError, match="NaN or Inf"):
        greatest_error(SMALL[0], peer, bench_on_cpu())


def test_copy_copies_both_ways() -> None:
    copy = PEERS["copy"].prepare(SMALL[0], CPU)
    q, k = (x.requires_grad_() for x in SMALL[0].tensors(CPU, seed=0))
    y = copy(q, k)
    assert torch.equal(y[0], q) and y[0].data_ptr() != q.data_ptr()
    gradients = torch.autograd.grad(y, (q, k), (q.detach(), k.detach()))
    assert torch.equal(gradients[1], k) and gradients[1].data_ptr() != k.data_ptr()


def test_oracle_is_exact() -> None:
    positions = [0, 1, -7, 2**20 + 1, 2**31 - 1, 2**40 + 15]
    inv_freq = inverse_frequencies(16).tolist()
    cos, sin = exact_cos_sin(positions, inv_freq)
    exact = [[cos_sin(m, f) for f in inv_freq] for m in positions]
    expected = torch.tensor(exact, dtype=torch.float64)
    torch.testing.assert_close(torch.stack((cos, sin), dim=-1), expected, atol=1e-15, rtol=0)
