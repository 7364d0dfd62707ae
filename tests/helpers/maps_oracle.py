"""The maps to test, and attention under one of them pair by pair."""

import math

import torch

from methods.maps import (
    DualChunk,
    LeakyReRope,
    MeanReRope,
    ReRope,
    SelfExtend,
    Sinks,
    Window,
    attended,
)
from model import RoPEAttention, rope_frequencies


def grid(n):
    """Queries (n, 1) and keys (1, n)."""
    return torch.arange(n)[:, None], torch.arange(n)[None]


MAPS = [
    ReRope(7),
    ReRope(1),
    MeanReRope(7, 20),
    MeanReRope(1, 2),
    LeakyReRope(7, 4),
    LeakyReRope(1, 16),
    SelfExtend(4, 8),
    SelfExtend(3, 8),  # the group does not divide the window
    SelfExtend(8, 3),
    DualChunk(12, 4),
    DualChunk(9, 1),
]


MASKS = [Window(7), Window(1), Sinks(3, 7), Sinks(7, 3), Sinks(1, 1)]


def attention(**options):
    torch.manual_seed(0)
    return RoPEAttention(32, 4, 0.0, causal=True, backend="pytorch", **options).double()


def pairwise(module, x, position_map, inv_freq=None, temperature=1.0):
    """Every pair of query and key rotated for itself, by its relative position."""
    b, s, _ = x.shape
    h, hk, d = module.n_heads, module.n_kv_heads, module.head_dim
    inv_freq = rope_frequencies(d)[0] if inv_freq is None else inv_freq
    q, k, v = module.qkv(x).split((h * d, hk * d, hk * d), dim=-1)
    q, k, v = q.view(b, s, h, d), k.view(b, s, hk, d), v.view(b, s, hk, d)
    k, v = k.repeat_interleave(h // hk, 2), v.repeat_interleave(h // hk, 2)
    q, k = (torch.view_as_complex(t.unflatten(-1, (-1, 2)).contiguous()) for t in (q, k))
    i, j = grid(s)
    angle = position_map.relative(i, j)[..., None] * inv_freq  # (S, T, P)
    turn = torch.polar(torch.full_like(angle, temperature**2), angle)
    if isinstance(
        position_map, MeanReRope
    ):  # from the window on the mean over these distances, summed up
        distances = torch.arange(position_map.window, position_map.longest + 1)[:, None]
        mean = torch.exp(1j * distances * inv_freq).mean(0)
        turn = torch.where((i - j >= position_map.window)[..., None], mean * temperature**2, turn)
    scores = torch.einsum("bihp,bjhp,ijp->bhij", q, k.conj(), turn).real / math.sqrt(d)
    unseen = ~attended(position_map, i, j) | (j > i)
    weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)
    return module.out(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(-2))
