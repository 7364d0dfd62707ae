"""GPT-NeoX, as in Pythia: attention and MLP side by side, a quarter of each head rotated."""

from typing import Any

from hf.families.common import PLAIN, shape
from hf.families.family import Family, Layout
from hf.families.weight import qkv_by_head
from hf.keys import Keys
from hf.scaling_in import rope_fields


def gpt_neox(keys: Keys) -> dict[str, Any]:
    """GPT-NeoX."""
    fields, attention = shape(keys), keys.flag("attention_bias")
    rope = rope_fields(
        keys,
        fields["head_dim"],
        share=0.25,
        theta_keys=("rotary_emb_base", "rope_theta"),
        share_keys=("rotary_pct", "partial_rotary_factor"),
    )
    return {
        **fields,
        **rope,
        "block": "parallel" if keys.flag("use_parallel_residual") else "pre",
        "norm": "layer",
        "norm_eps": keys.number("layer_norm_eps"),
        "norm_bias": True,
        "mlp": keys.named("hidden_act", PLAIN),
        "mlp_bias": True,
        "qkv_bias": attention,
        "out_bias": attention,
    }


LAYOUT = Layout(
    {
        "embedding": "gpt_neox.embed_in",
        "norm": "gpt_neox.final_layer_norm",
        "head": "embed_out",
    },
    "gpt_neox.layers.{}.",
    {
        "attention_norm": "input_layernorm",
        "attention.qkv": "attention.query_key_value",
        "attention.out": "attention.dense",
        "mlp_norm": "post_attention_layernorm",
        "mlp.up": "mlp.dense_h_to_4h",
        "mlp.down": "mlp.dense_4h_to_h",
    },
    {"attention.qkv": qkv_by_head},
)
FAMILIES = (
    Family(
        model_type="gpt_neox",
        architecture="GPTNeoXForCausalLM",
        fields=gpt_neox,
        layout=LAYOUT,
        defaults={
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
            "use_parallel_residual": True,
            "attention_bias": True,
        },
        base="gpt_neox.",
        renamed=((r"^lm_head\.", "embed_out."),),
    ),
)
