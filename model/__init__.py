"""The network: its config, rotary frequencies and their scalings, attention, the transformer.

Config, rules and frequencies' settings need no torch; the rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from common.lazy import importing

if TYPE_CHECKING:
    from model.attention import RoPEAttention
    from model.config import ScalingConfig, TransformerConfig
    from model.frequencies import rope_frequencies
    from model.generation import generate, generate_batch
    from model.transformer import Transformer

__all__ = [
    "RoPEAttention",
    "ScalingConfig",
    "Transformer",
    "TransformerConfig",
    "generate",
    "generate_batch",
    "rope_frequencies",
]

__getattr__ = importing(
    __name__,
    {
        "model.attention": ["RoPEAttention"],
        "model.config": ["ScalingConfig", "TransformerConfig"],
        "model.frequencies": ["rope_frequencies"],
        "model.generation": ["generate", "generate_batch"],
        "model.transformer": ["Transformer"],
    },
)
