"""Positions drawn at random in training (`model.random_positions`).

Trained on such, a model has seen the positions, and the distances, of much longer inputs
(Ruoss et al. 2023, arXiv:2305.16843).

Shapes: S sequence.
"""

import torch
from torch import Tensor

from model import TransformerConfig


def random_positions(seq_len: int, span: int, device: torch.device) -> Tensor:
    """`seq_len` different positions below `span`, drawn at random and in order: int64 (S,).

    Draws from the device's default generator. Raises ValueError where `span` has not so many.
    """
    if seq_len > span:
        raise ValueError(
            f"model.random_positions={span}: must be at least the {seq_len} tokens of the input"
        )
    # The places of the largest of random numbers, not randperm: it can stand in a CUDA graph.
    return torch.rand(span, device=device).topk(seq_len).indices.sort().values


def drawn_positions(config: TransformerConfig, seq_len: int, device: torch.device) -> Tensor | None:
    span = config.random_positions
    return None if span is None else random_positions(seq_len, span, device)
