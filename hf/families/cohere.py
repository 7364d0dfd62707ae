"""Cohere's Command R and R7B: one LayerNorm for attention and MLP, interleaved pairs, a scale of
the logits. In the second, layers with a window rotate and full ones have no positions."""

from typing import Any

from hf.families import llama
from hf.families.common import GATES, depth, layer_types, layers, shape
from hf.families.family import Family, Layout
from hf.families.gemma import every
from hf.keys import Keys
from hf.scaling_in import rope_fields


def decoder(keys: Keys, theta: float) -> dict[str, Any]:
    """What both have."""
    fields, attention = shape(keys), keys.flag("attention_bias")
    return {
        **fields,
        **rope_fields(keys, fields["head_dim"], theta=theta),
        "interleaved": True,
        "block": "parallel-shared",
        "norm": "layer",
        "norm_eps": keys.number("layer_norm_eps"),
        "mlp": keys.named("hidden_act", GATES),
        "qkv_bias": attention,
        "out_bias": attention,
        "logit_scale": keys.number("logit_scale"),
    }


def cohere(keys: Keys) -> dict[str, Any]:
    """Command R."""
    qk_norm = "heads" if keys.flag("use_qk_norm") else False
    return {**decoder(keys, 500000.0), "qk_norm": qk_norm}


def cohere2(keys: Keys) -> dict[str, Any]:
    """Command R7B and A."""
    for key, value in PUBLISHED.items():
        keys.only(key, value, because="the family has it so")
    switch = keys.whole("layer_switch")
    n = keys.optional_whole("sliding_window_pattern") or switch
    window, n_layers = keys.optional_whole("sliding_window"), depth(keys)
    types = layer_types(keys, every(n, n_layers))
    nope = [kind == "full_attention" for kind in types]
    return {**decoder(keys, 10000.0), **layers(types, window, nope)}


# What published config.json have of Cohere's own code, which transformers does not read
PUBLISHED = {
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_qk_norm": False,
}
LAYOUT = Layout(
    llama.OUTER,
    llama.BLOCK,
    {"attention_norm": "input_layernorm", **llama.ATTENTION, **llama.MLP},
)
DEFAULTS = {
    "hidden_act": "silu",
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "logit_scale": 0.0625,
}
FAMILIES = (
    Family(
        model_type="cohere",
        architecture="CohereForCausalLM",
        fields=cohere,
        layout=LAYOUT,
        defaults={**DEFAULTS, "use_qk_norm": False},
    ),
    Family(
        model_type="cohere2",
        architecture="Cohere2ForCausalLM",
        fields=cohere2,
        layout=LAYOUT,
        defaults={**DEFAULTS, "sliding_window": 4096, "layer_switch": 4},
        harmless=frozenset({"use_embedding_sharing", "use_parallel_embedding"}),
    ),
)
