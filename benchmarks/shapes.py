"""The shapes of q and k that are rotated: those of the grid, and of the length curve.

Shapes: B batch, S sequence, H heads of q or k, D head_dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

THETA = 10000.0
DECODE_CONTEXT = 8192  # a decoding token stands somewhere below this position
CPU_ELEMENTS = 2**25  # of q and k together: more would keep a CPU busy for minutes

_DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class Shape:
    """q (B, S, n_heads, D) and k (B, S, n_kv_heads, D); S = 1 is a decoding step.

    What the command calls a cell.
    """

    batch: int
    seq_len: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    dtype: torch.dtype = torch.bfloat16
    rotary_dim: int | None = None  # None: the whole head

    @property
    def name(self) -> str:
        """What `cells=` calls it: B x S x heads of q x heads of k x D - dtype."""
        shape = (self.batch, self.seq_len, self.n_heads, self.n_kv_heads, self.head_dim)
        partial = f"-rotary{self.rotary_dim}" if self.rotary_dim else ""
        return f"{'x'.join(map(str, shape))}-{_DTYPES[self.dtype]}{partial}"

    @property
    def rotated(self) -> int:
        """Components of a head that are rotated, the first ones."""
        return self.rotary_dim or self.head_dim

    @property
    def elements(self) -> int:
        """Elements of q and k together."""
        return self.batch * self.seq_len * (self.n_heads + self.n_kv_heads) * self.head_dim

    @property
    def bytes_moved(self) -> int:
        """What a rotation of q and k moves at least: each byte is read once and written once."""
        return 2 * self.elements * self.dtype.itemsize

    def tensors(self, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
        """Random q and k, contiguous."""
        generator = torch.Generator(device).manual_seed(seed)
        shapes = (
            (self.batch, self.seq_len, heads, self.head_dim)
            for heads in (self.n_heads, self.n_kv_heads)
        )
        q, k = (
            torch.randn(shape, generator=generator, device=device, dtype=self.dtype)
            for shape in shapes
        )
        return q, k

    def positions(self, device: torch.device) -> Tensor | None:
        """For a decoding step (B, 1) int64, anywhere in a context; None stands for 0 ... S-1."""
        if self.seq_len > 1:
            return None
        generator = torch.Generator().manual_seed(self.batch)
        return torch.randint(DECODE_CONTEXT, (self.batch, 1), generator=generator).to(device)


_GRID = (
    Shape(4, 512, 8, 8, 64, torch.float32),
    Shape(4, 2048, 8, 8, 64, torch.float32),
    Shape(4, 2048, 8, 8, 64),
    Shape(32, 1024, 12, 12, 64),
    Shape(64, 1024, 12, 12, 64),
    Shape(2, 4096, 32, 32, 128),
    Shape(4, 8192, 32, 8, 128),
    Shape(1, 131072, 32, 8, 128),
    Shape(8, 4096, 16, 2, 256, rotary_dim=64),
    Shape(64, 1, 32, 8, 128),
    Shape(256, 1, 12, 12, 64),
)
SHAPES: dict[str, Shape] = {shape.name: shape for shape in _GRID}


def length_shape(seq_len: int) -> Shape:
    """A point of the length curve: four sequences of a model with 32 heads, 8 of keys, of 128."""
    return Shape(4, seq_len, 32, 8, 128)


def too_large(shape: Shape, device: torch.device) -> str | None:
    """Why the shape is left out on this device, or None."""
    if device.type == "cuda" or shape.elements <= CPU_ELEMENTS:
        return None
    return f"more than {CPU_ELEMENTS:,} elements: needs a CUDA GPU"
