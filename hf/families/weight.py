"""How a tensor of a Hugging Face model becomes one of ours, and the way back.

Every function here makes a `How` for the shapes of a config. Shapes: H heads of queries, D
head_dim, C d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from model.config import TransformerConfig

    Join = Callable[[Sequence[Tensor]], Tensor]
    Split = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class How:
    """Both directions between the tensors of a file and one of ours."""

    join: Join
    split: Split


@dataclass(frozen=True)
class Weight:
    """One parameter of our Transformer, by its name in `state_dict`, and what makes it."""

    ours: str
    theirs: tuple[str, ...]
    how: How

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Ours, of theirs in the order of `theirs`."""
        return self.how.join(tensors)

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Theirs, in the order of `theirs`, of ours."""
        return self.how.split(tensor)


def same(config: TransformerConfig) -> How:
    """The tensor as it is."""
    return How(lambda tensors: tensors[0], lambda tensor: [tensor])


def transposed(config: TransformerConfig) -> How:
    """GPT-2 keeps its matrices as (in, out), and a bias as it is."""

    def turned(tensor: Tensor) -> Tensor:
        return tensor.mT if tensor.ndim == 2 else tensor

    return How(lambda tensors: turned(tensors[0]), lambda tensor: [turned(tensor)])


def plus_one(config: TransformerConfig) -> How:
    """Gemma's norms multiply by 1 + w: in float32, so that the sum is rounded once, or never."""
    return How(lambda tensors: tensors[0].float() + 1, lambda tensor: [tensor.float() - 1])


def qkv_rows(config: TransformerConfig) -> How:
    """The projections of q, k and v below each other."""
    keys = config.kv_heads * config.head_width
    return _rows(config.n_heads * config.head_width, keys, keys)


def gate_rows(config: TransformerConfig) -> How:
    """Gate and value of a gated MLP below each other."""
    return _rows(config.mlp_width, config.mlp_width)


def qkv_by_head(config: TransformerConfig) -> How:
    """GPT-NeoX keeps q, k and v of each head together: (H, 3, D, C), where ours is (3, H, D, C)."""
    heads, width = config.n_heads, config.head_width

    def join(tensors: Sequence[Tensor]) -> Tensor:
        x = tensors[0].unflatten(0, (heads, 3, width))
        return x.transpose(0, 1).flatten(0, 2)

    def split(tensor: Tensor) -> list[Tensor]:
        x = tensor.unflatten(0, (3, heads, width))
        return [x.transpose(0, 1).flatten(0, 2)]

    return How(join, split)


def _rows(*sizes: int) -> How:
    def join(tensors: Sequence[Tensor]) -> Tensor:
        import torch

        return torch.cat(list(tensors))

    return How(join, lambda tensor: list(tensor.split(sizes)))
