"""What single experiments add to the model: they register here, and the model asks.

Each stands under the config key of the group `model` that turns it on. The model imports none of
them; `import extras` registers those of this project.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from common.rules import refuse
from model.config import TransformerConfig
from model.layers import Layer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from model.attention import RoPEAttention

    # What makes the attention of a layer, called with the arguments of RoPEAttention; None: the
    # ordinary one does.
    AttentionKind = Callable[[TransformerConfig, Layer], Callable[..., RoPEAttention] | None]
    # Where the tokens of an input stand in training: (config, seq_len, device) -> int64 (S,);
    # None: at 0, 1, ...
    TrainingPositions = Callable[[TransformerConfig, int, torch.device], Tensor | None]


KEYS = ("crossbatch", "random_positions")  # of the config, for what is registered
_attention: dict[str, AttentionKind] = {}
_positions: dict[str, TrainingPositions] = {}


def register_attention(key: str, kind: AttentionKind) -> None:
    """Let `kind` choose the attention of layers, for models with `model.<key>`."""
    assert key in KEYS, key
    _attention[key] = kind


def register_positions(key: str, positions: TrainingPositions) -> None:
    """Let `positions` place the tokens in training, for models with `model.<key>`."""
    assert key in KEYS, key
    _positions[key] = positions


def check_registered(config: TransformerConfig) -> None:
    """ValueError, a line for each key that is set and that nothing has been registered for."""
    lines = [
        f"model.{key}={value}: is made by an extra, and none is registered; `import extras` does so"
        for key in KEYS
        if (value := getattr(config, key)) is not None and key not in {**_attention, **_positions}
    ]
    refuse(lines)


def attention_of(config: TransformerConfig, layer: Layer) -> Callable[..., RoPEAttention]:
    """What makes the attention of a layer."""
    from model.attention import RoPEAttention  # which imports torch, as registering does not

    wanted = (kind for key, kind in _attention.items() if getattr(config, key) is not None)
    kinds = (kind(config, layer) for kind in wanted)
    return next((kind for kind in kinds if kind is not None), RoPEAttention)


def training_positions(
    config: TransformerConfig, seq_len: int, device: torch.device
) -> Tensor | None:
    """Where the tokens of an input stand in training: (S,); None: at 0, 1, …."""
    for key, positions in _positions.items():
        if getattr(config, key) is not None:
            return positions(config, seq_len, device)
    return None
