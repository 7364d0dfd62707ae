"""Attention whose heads are of two kinds: most read what is near, a few look for what is far.

A layer in which every head sees everything without positions finds what stands far back, but its
other heads spread over all that a longer text adds. Here only as many heads as the search needs do.

Shapes: B batch, S sequence, C d_model.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from extras.crossbatch import CrossBatchAttention
from methods.maps import Remap
from model.attention import RoPEAttention
from model.cache import MixedCache
from model.config import TransformerConfig
from model.layers import Layer


def make_attention(config: TransformerConfig, layer: Layer) -> RoPEAttention:
    """The attention of one layer of a Transformer."""
    n_heads = config.n_heads
    kind: Callable[..., RoPEAttention] = RoPEAttention
    if config.crossbatch and layer.is_far:
        kind = partial(CrossBatchAttention, passages=config.crossbatch)
    return kind(
        config.d_model,
        n_heads,
        config.dropout,
        config.theta,
        n_kv_heads=n_heads * config.kv_heads // config.n_heads,
        head_dim=config.head_width,
        causal=True,
        qk_norm=config.qk_norm,
        window=layer.window,
        ssmax=config.ssmax and layer.window is None,
        position=layer.position,
        backend=config.backend,
        interleaved=config.interleaved,
        fraction=config.fraction,
        fused_projection=config.fused_projection,
    )


class MixedAttention(nn.Module):
    """The sum of what near heads and far heads write into the residual stream.

    That is one attention of all their heads, whose output matrix is cut in two.
    """

    def __init__(self, near: RoPEAttention, far: RoPEAttention) -> None:
        super().__init__()
        self.near, self.far = near, far

    def forward(
        self, x: Tensor, *, positions: Tensor | None = None, cache: MixedCache | None = None
    ) -> Tensor:
        """(B, S, C) -> (B, S, C); arguments as of `RoPEAttention`, less the mask."""
        near, far = (None, None) if cache is None else (cache.near, cache.far)
        there = self.near(x, positions=positions, cache=near)
        return there + self.far(x, positions=positions, cache=far)

    @property
    def remap(self) -> Remap | None:
        """What bends relative positions: nothing here, where near heads have a window."""
        return self.near.remap

    def new_cache(self, batch_size: int, max_length: int) -> MixedCache:
        """An empty cache for both kinds of heads."""
        return MixedCache(
            self.near.new_cache(batch_size, max_length), self.far.new_cache(batch_size, max_length)
        )
