"""GLM 4: interleaved pairs, half of each head rotated; later norms around the branches, too."""

from typing import Any

from hf.families import llama
from hf.families.common import GATES, shape
from hf.families.family import Family, Layout
from hf.families.phi import PHI3
from hf.keys import Keys
from hf.scaling_in import rope_fields


def glm(keys: Keys) -> dict[str, Any]:
    """GLM-4-9b in transformers' own form."""
    fields = shape(keys)
    return {
        **fields,
        **rope_fields(keys, fields["head_dim"], share=0.5),
        "interleaved": True,
        "norm_eps": keys.number("rms_norm_eps"),
        "mlp": keys.named("hidden_act", GATES),
        "qkv_bias": keys.flag("attention_bias"),
    }


def glm4(keys: Keys) -> dict[str, Any]:
    """GLM-4-0414."""
    return {**glm(keys), "block": "sandwich"}


APART = {  # q, k and v are; gate and value are not
    "attention.qkv": llama.ATTENTION["attention.qkv"],
    "attention.out": "self_attn.o_proj",
    "mlp.up": PHI3.inner["mlp.up"],
    "mlp.down": "mlp.down_proj",
}
AROUND = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_self_attn_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "mlp_post_norm": "post_mlp_layernorm",
}
DEFAULTS = {
    "num_key_value_heads": 2,
    "head_dim": 128,
    "hidden_act": "silu",
    "rms_norm_eps": 1.5625e-7,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "attention_bias": True,
}
FAMILIES = (
    Family(
        model_type="glm",
        architecture="GlmForCausalLM",
        fields=glm,
        layout=Layout(llama.OUTER, llama.BLOCK, {**llama.NORMS, **APART}),
        defaults=DEFAULTS,
    ),
    Family(
        model_type="glm4",
        architecture="Glm4ForCausalLM",
        fields=glm4,
        layout=Layout(llama.OUTER, llama.BLOCK, {**AROUND, **APART}),
        defaults=DEFAULTS,
    ),
)
