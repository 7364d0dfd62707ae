"""GPT-2: learned positions, LayerNorms and biases everywhere, matrices stored the other way."""

from typing import Any

from hf.families.common import LAYERS, PLAIN
from hf.families.family import Family, Layout
from hf.families.weight import transposed
from hf.keys import Keys


def gpt2(keys: Keys) -> dict[str, Any]:
    """GPT-2, which names its sizes in its own way."""
    keys.only("scale_attn_by_inverse_layer_idx", False, because="layers share one scale")
    heads, width = keys.whole("n_head"), keys.whole("n_embd")
    if width % heads:
        raise ValueError(f"n_head={heads}: must divide n_embd={width}")
    return {
        "vocab_size": keys.whole("vocab_size"),
        "n_layers": keys.ruled("n_layer", LAYERS),
        "d_model": width,
        "n_heads": heads,
        "head_dim": width // heads,
        "mlp_hidden": keys.optional_whole("n_inner") or 4 * width,
        "tied_head": keys.flag("tie_word_embeddings"),
        "position": "learned",
        "train_length": keys.whole("n_positions"),
        "norm": "layer",
        "norm_eps": keys.number("layer_norm_epsilon"),
        "mlp": keys.named("activation_function", PLAIN),
        "attention_scale": None if keys.flag("scale_attn_weights") else 1.0,
        **dict.fromkeys(("norm_bias", "qkv_bias", "out_bias", "mlp_bias"), True),
    }


MATRICES = {
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
LAYOUT = Layout(
    {
        "embedding": "transformer.wte",
        "position_embedding": "transformer.wpe",
        "norm": "transformer.ln_f",
        "head": "lm_head",
    },
    "transformer.h.{}.",
    {"attention_norm": "ln_1", "mlp_norm": "ln_2", **MATRICES},
    dict.fromkeys(MATRICES, transposed),
)
FAMILIES = (
    Family(
        model_type="gpt2",
        architecture="GPT2LMHeadModel",
        fields=gpt2,
        layout=LAYOUT,
        defaults={
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "n_positions": 1024,
            "tie_word_embeddings": True,
            "scale_attn_weights": True,
        },
        base="transformer.",
        harmless=frozenset({"reorder_and_upcast_attn", "summary_activation"}),
    ),
)
