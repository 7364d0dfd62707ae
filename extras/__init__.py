"""What single experiments need beside the ordinary model and its training.

The other rooms import none of it: importing this package registers kinds of attention and
positions with model, and tasks with data; phases of training stand in configs/phases. It imports
no torch: the model's extras are imported when a model asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from common.rules import at_least, optional
from extras import tasks
from model.config import TransformerConfig
from model.layers import Layer
from model.registry import register_attention, register_positions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from model import RoPEAttention

__all__ = ["RULES", "tasks"]

RULES = {  # of the keys that phases of training have (configs/phases)
    "crossbatch_from": at_least(0, 0),
    "drop_positions_at": optional(at_least(1, 400)),
}


def _attention(config: TransformerConfig, layer: Layer) -> Callable[..., RoPEAttention] | None:
    from extras.crossbatch import crossbatch_attention

    return crossbatch_attention(config, layer)


def _positions(config: TransformerConfig, seq_len: int, device: torch.device) -> Tensor | None:
    from extras.random_positions import drawn_positions

    return drawn_positions(config, seq_len, device)


register_attention("crossbatch", _attention)
register_positions("random_positions", _positions)
