"""The network: its config, rotary frequencies and their scalings, attention, the transformer."""

from model.attention import RoPEAttention
from model.config import ScalingConfig, TransformerConfig
from model.frequencies import rope_frequencies
from model.generate import generate
from model.transformer import Transformer

__all__ = [
    "RoPEAttention",
    "ScalingConfig",
    "Transformer",
    "TransformerConfig",
    "generate",
    "rope_frequencies",
]
