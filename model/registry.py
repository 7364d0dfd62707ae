"""What single experiments add to the model: they register here, and the model asks.

Each stands under the config key of the group `model` that turns it on. The model imports none of
them; `import extras` registers those of this project.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.attention import RoPEAttention
from model.config import TransformerConfig
from model.layers import Layer

# What makes the attention of a layer, called with the arguments of RoPEAttention; None: the
# ordinary one does.
AttentionKind = Callable[[TransformerConfig, Layer], Callable[..., RoPEAttention] | None]
# Where the tokens of an input stand in training: (config, seq_len, device) -> int64 (S,); None:
# at 0, 1, ...
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
    if lines:
        raise ValueError("\n".join(lines))


def attention_of(config: TransformerConfig, layer: Layer) -> Callable[..., RoPEAttention]:
    """What makes the attention of a layer."""
    kinds = (kind(config, layer) for kind in _attention.values())
    return next((kind for kind in kinds if kind is not None), RoPEAttention)


def training_positions(
    config: TransformerConfig, seq_len: int, device: torch.device
) -> Tensor | None:
    """Where the tokens of an input stand in training: (S,); None: at 0, 1, …."""
    for positions in _positions.values():
        if (placed := positions(config, seq_len, device)) is not None:
            return placed
    return None
