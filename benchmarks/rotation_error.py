"""How far from exact a peer's rotation is.

Shapes: B batch, S sequence, H heads, D head_dim, N sampled tokens.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.exact_rotation import exact_cos_sin, relative_errors, rotate_pairs
from benchmarks.peers import Peer
from benchmarks.shapes import THETA, Shape
from kernels import inverse_frequencies

CHECKED_TOKENS = 256


def greatest_error(shape: Shape, peer: Peer, bench: Bench) -> float:
    """The greatest ‖y - exact‖ / ‖exact‖ of a head of q or k, over the checked tokens.

    ValueError where the result is not finite.
    """
    q, k = shape.tensors(bench.device, bench.seed)
    if bench.device.type == "cpu" and peer.on_cpu == "checked" and shape.seq_len > 1:
        # Triton's interpreter takes its time: one block of tokens.
        shape = replace(shape, batch=1, seq_len=min(shape.seq_len, CHECKED_TOKENS))
        q, k = q[:1, : shape.seq_len], k[:1, : shape.seq_len]
    rotate = peer.prepare(shape, bench.device)
    with torch.no_grad():
        rotated = [peer.restore(y) for y in rotate(peer.arrange(q), peer.arrange(k))]
    errors = [_error(shape, peer, x, y) for x, y in zip((q, k), rotated, strict=True)]
    worst = torch.stack(errors).max().item()
    if not math.isfinite(worst):
        raise ValueError("its result holds NaN or Inf")
    return worst


def _error(shape: Shape, peer: Peer, x: Tensor, y: Tensor) -> Tensor:
    """The greatest of x (B, S, H, D) as y rotates it."""
    batch, step = _checked_tokens(shape)
    positions = shape.positions(torch.device("cpu"))
    at = step if positions is None else positions[batch, step]
    cos, sin = exact_cos_sin(at.tolist(), inverse_frequencies(shape.rotated, THETA).tolist())
    x, y = (tensor[batch.to(x.device), step.to(x.device)].cpu() for tensor in (x, y))  # (N, H, D)
    exact = rotate_pairs(x.double(), cos, sin, bool(peer.interleaved))
    return relative_errors(y, exact).max()


def _checked_tokens(shape: Shape) -> tuple[Tensor, Tensor]:
    """Batch and sequence index (N,) of tokens spread over the whole, the last one included."""
    count = min(CHECKED_TOKENS, shape.batch * shape.seq_len)
    step = torch.linspace(0, shape.seq_len - 1, count, dtype=torch.float64).round().long()
    return torch.arange(count) % shape.batch, step
