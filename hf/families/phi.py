"""Phi 1 to 2: one LayerNorm for attention and MLP, biases everywhere. Phi 3: Llama, but fused."""

from typing import Any

from hf.families import llama
from hf.families.common import GATES, PLAIN, layers, shape
from hf.families.family import Family, Layout
from hf.keys import Keys
from hf.scaling_in import rope_fields


def phi(keys: Keys) -> dict[str, Any]:
    """Phi 1, 1.5 and 2."""
    keys.only("qk_layernorm", False, because="layer norms of q and k with biases are not")
    fields = shape(keys)
    biases = ("norm_bias", "qkv_bias", "out_bias", "mlp_bias", "head_bias")
    return {
        **fields,
        **rope_fields(keys, fields["head_dim"], share=0.5),
        "block": "parallel-shared",
        "norm": "layer",
        "norm_eps": keys.number("layer_norm_eps"),
        "mlp": keys.named("hidden_act", PLAIN),
        **dict.fromkeys(biases, True),
    }


def phi3(keys: Keys) -> dict[str, Any]:
    """Phi 3, 3.5 and 4: the window is that of every layer; longrope was once called su, or yarn."""
    fields, window = shape(keys), keys.optional_whole("sliding_window")
    longrope = {"su": "longrope", "yarn": "longrope"}
    kind = "full_attention" if window is None else "sliding_attention"
    return {
        **fields,
        **rope_fields(keys, fields["head_dim"], share=1.0, types=longrope),
        "mlp": keys.named("hidden_act", GATES),
        "norm_eps": keys.number("rms_norm_eps"),
        **layers([kind] * fields["n_layers"], window),
    }


PHI = Layout(
    {"embedding": "model.embed_tokens", "norm": "model.final_layernorm", "head": "lm_head"},
    llama.BLOCK,
    {
        "attention_norm": "input_layernorm",
        "attention.qkv": llama.ATTENTION["attention.qkv"],
        "attention.out": "self_attn.dense",
        "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    },
)
PHI3 = Layout(
    llama.OUTER,
    llama.BLOCK,
    {
        **llama.NORMS,
        "attention.qkv": "self_attn.qkv_proj",
        "attention.out": "self_attn.o_proj",
        "mlp.up": "mlp.gate_up_proj",
        "mlp.down": "mlp.down_proj",
    },
)
FAMILIES = (
    Family(
        model_type="phi",
        architecture="PhiForCausalLM",
        fields=phi,
        layout=PHI,
        defaults={
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
        },
    ),
    Family(
        model_type="phi3",
        architecture="Phi3ForCausalLM",
        fields=phi3,
        layout=PHI3,
        defaults={
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "tie_word_embeddings": False,
        },
        harmless=frozenset({"full_attn_mod", "interpolate_factor"}),  # of Phi 4's own code
    ),
)
