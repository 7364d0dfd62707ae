"""Phi-3: Llama with its projections in one matrix each, a window, and a part of a head rotated."""

from typing import Any

from hf.families.common import GATES, layers, shape
from hf.families.family import Family, Layout
from hf.families.llama import BLOCK, DEFAULTS, NORMS, OUTER
from hf.keys import Keys
from hf.scaling_in import rope_fields


def phi3(keys: Keys) -> dict[str, Any]:
    """Phi-3 and 4 without experts: a window in every layer, or in none."""
    fields = shape(keys)
    rope = rope_fields(keys, fields["head_dim"], share=1.0)
    if rope["scaling"].method not in ("none", "longrope"):
        raise ValueError(f"rope_type={rope['scaling'].method}: this family has longrope alone")
    window, n_layers = keys.optional_whole("sliding_window"), keys.whole("num_hidden_layers")
    kind = "full_attention" if window is None else "sliding_attention"
    own = {"mlp": keys.named("hidden_act", GATES), "norm_eps": keys.number("rms_norm_eps")}
    return {**fields, **own, **rope, **layers([kind] * n_layers, window)}


FAMILIES = (
    Family(
        model_type="phi3",
        architecture="Phi3ForCausalLM",
        fields=phi3,
        layout=Layout(
            OUTER,
            BLOCK,
            {
                **NORMS,
                "attention.qkv": "self_attn.qkv_proj",
                "attention.out": "self_attn.o_proj",
                "mlp.up": "mlp.gate_up_proj",
                "mlp.down": "mlp.down_proj",
            },
        ),
        defaults={
            **DEFAULTS,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 4096,
            "sliding_window": None,
        },
    ),
)
