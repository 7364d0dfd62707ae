"""The keys and values that decoding has already computed.

Shapes: B batch, S new tokens, T tokens so far with the new ones, H heads of keys and values,
D head_dim.
"""

import torch
from torch import Tensor


class LayerCache:
    """One layer's keys and values, preallocated for `max_length` tokens; `length` are filled."""

    def __init__(
        self,
        batch_size: int,
        max_length: int,
        n_kv_heads: int,
        head_dim: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        shape = (batch_size, max_length, n_kv_heads, head_dim)
        self.k = torch.zeros(shape, dtype=dtype, device=device)  # (B, max_length, H, D), rotated
        self.v = torch.zeros(shape, dtype=dtype, device=device)  # (B, max_length, H, D)
        self.positions: Tensor | None = None  # (B, max_length) integers; None: counted from 0
        self.length = 0

    @property
    def max_length(self) -> int:
        """Tokens that there is room for."""
        return self.k.shape[1]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' k and v (B, S, H, D); return all so far, (B, T, H, D) views.

        Raises ValueError past `max_length`, for another batch size, and where a gradient is asked
        for: it could not reach the tokens stored by earlier calls.
        """
        batch_size, max_length = self.k.shape[:2]
        start, end = self.length, self.length + k.shape[1]
        if end > max_length:
            raise ValueError(f"cache: {end} tokens do not fit in max_length={max_length}")
        if k.shape[0] != batch_size:
            raise ValueError(f"cache: batch of {k.shape[0]} in a cache of batch_size={batch_size}")
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise ValueError("cache: keeps no gradient; call the model under torch.no_grad()")
        self.k[:, start:end] = k
        self.v[:, start:end] = v
        self.length = end
        return self.k[:, :end], self.v[:, :end]

    def set_positions(self, positions: Tensor) -> None:
        """Store where the newest tokens stand, (S,) or (B, S) integers; others are counted."""
        if self.positions is None:
            batch_size, max_length = self.k.shape[:2]
            self.positions = self._counted(max_length).repeat(batch_size, 1)
        self.positions[:, self.length - positions.shape[-1] : self.length] = positions

    def key_positions(self) -> Tensor:
        """Of all tokens so far: (T,), or (B, T) where some were given."""
        if self.positions is None:
            return self._counted(self.length)
        return self.positions[:, : self.length]

    def _counted(self, length: int) -> Tensor:
        return torch.arange(length, device=self.k.device)


class KVCache:
    """A cache for every layer of a model; `Transformer.new_cache` makes one.

    The keys in it are rotated: after `Transformer.set_scaling`, start a new one.
    """

    def __init__(self, layers: list[LayerCache]) -> None:
        self.layers = layers

    @property
    def length(self) -> int:
        """Tokens stored."""
        return self.layers[0].length

    @property
    def max_length(self) -> int:
        """Tokens that there is room for."""
        return self.layers[0].max_length
