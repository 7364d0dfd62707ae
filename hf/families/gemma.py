"""Gemma 1 to 3: norms of weight 1 + w, scaled embeddings; then soft caps, windows, two thetas."""

import math
from typing import Any

from common.rules import shown
from hf.families import llama
from hf.families.common import GATES, layer_types, layers, shape
from hf.families.family import Family, Layout
from hf.families.weight import plus_one
from hf.keys import Keys
from hf.scaling_in import LAYER_TYPES, layered_fields, rope_fields

# Gemma 1 was published with gelu and runs with its tanh approximation.
GELU = {"gelu": "geglu", "gelu_pytorch_tanh": "geglu"}


def decoder(keys: Keys) -> dict[str, Any]:
    """What all of them have."""
    keys.only("use_bidirectional_attention", None, False, because="attention is causal here")
    fields, attention = shape(keys), keys.flag("attention_bias")
    return {
        **fields,
        "norm_eps": keys.number("rms_norm_eps"),
        "embedding_scale": math.sqrt(fields["d_model"]),
        "qkv_bias": attention,
        "out_bias": attention,
    }


def gemma(keys: Keys) -> dict[str, Any]:
    """Gemma 1."""
    keys.only("hidden_activation", None, *GELU, because="the family has the tanh approximation")
    fields = decoder(keys)
    rope = rope_fields(keys, fields["head_dim"])
    return {**fields, "mlp": keys.named("hidden_act", GELU), **rope}


def sandwich(keys: Keys) -> dict[str, Any]:
    """What Gemma 2 and 3 have in common: norms around the branches, a cap, scores of a scale."""
    keys.only("hidden_act", None, *GELU, because="hidden_activation is what counts here")
    return {
        **decoder(keys),
        "block": "sandwich",
        "mlp": keys.named("hidden_activation", GATES),
        "attention_scale": keys.number("query_pre_attn_scalar") ** -0.5,
        "logit_softcap": keys.optional_number("final_logit_softcapping"),
    }


def gemma2(keys: Keys) -> dict[str, Any]:
    """Gemma 2: every other layer has a window, and scores have a soft cap."""
    fields, window = sandwich(keys), keys.optional_whole("sliding_window")
    softcap = keys.optional_number("attn_logit_softcapping")
    rope = rope_fields(keys, fields["head_dim"])
    types = layer_types(keys, every(2, fields["n_layers"]))
    return {**fields, "attention_softcap": softcap, **rope, **layers(types, window)}


def gemma3(keys: Keys) -> dict[str, Any]:
    """Gemma 3's text: five layers of six have a window and a theta of their own; q and k norms."""
    keys.only("attn_logit_softcapping", None, because="Gemma 3 has no such cap in transformers")
    fields, window = sandwich(keys), keys.optional_whole("sliding_window")
    types = layer_types(keys, every(keys.whole("sliding_window_pattern"), fields["n_layers"]))
    rope = layered_fields(keys, fields["head_dim"], *_of_layers(keys))
    return {**fields, "qk_norm": True, **rope, **layers(types, window)}


def _of_layers(keys: Keys) -> tuple[dict[str, Any], tuple[float, float]]:
    """Rotary parameters for each type of layer, and the thetas of the previous form."""
    given, scaling = keys.mapping("rope_parameters"), keys.mapping("rope_scaling")
    if given and not given.keys() <= set(LAYER_TYPES):
        raise ValueError(
            f"rope_parameters={shown(given)}: must have {' and '.join(LAYER_TYPES)}, each with a "
            "dictionary"
        )
    if scaling:
        given["full_attention"] = {**(given.get("full_attention") or {}), **scaling}
    return given, (keys.number("rope_theta"), keys.number("rope_local_base_freq"))


def gemma3_of_images(keys: Keys) -> dict[str, Any]:
    """The text model of Gemma 3 for text and images, which is read without its eyes."""
    text = Keys(keys.mapping("text_config"), GEMMA3)
    fields = gemma3(text)
    text.refuse_unread(WRITTEN)
    return fields


def every(n: int, n_layers: int) -> list[str]:
    """Layers with a window, but for every n-th, which is full."""
    return ["full_attention" if (i + 1) % n == 0 else "sliding_attention" for i in range(n_layers)]


INNER = {**llama.ATTENTION, **llama.MLP}
AROUND = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
ONES = dict.fromkeys([*AROUND, "norm", "attention.q_norm", "attention.k_norm"], plus_one)
SANDWICH = Layout(llama.OUTER, llama.BLOCK, {**AROUND, **INNER}, ONES)

GEMMA = {
    "num_key_value_heads": 16,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "attention_bias": False,
}
GEMMA2 = {
    **GEMMA,
    "num_key_value_heads": 4,
    "hidden_act": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}
GEMMA3 = {  # published configs leave out whatever has its default
    **GEMMA2,
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window_pattern": 6,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
}
WRITTEN = frozenset({"_sliding_window_pattern"})  # beside layer_types, which say the same
FAMILIES = (
    Family(
        model_type="gemma",
        architecture="GemmaForCausalLM",
        fields=gemma,
        layout=Layout(llama.OUTER, llama.BLOCK, {**llama.NORMS, **INNER}, ONES),
        defaults=GEMMA,
    ),
    Family(
        model_type="gemma2",
        architecture="Gemma2ForCausalLM",
        fields=gemma2,
        layout=SANDWICH,
        defaults=GEMMA2,
        harmless=frozenset({"sliding_window_size"}),
    ),
    Family(
        model_type="gemma3_text",
        architecture="Gemma3ForCausalLM",
        fields=gemma3,
        layout=SANDWICH,
        defaults=GEMMA3,
        harmless=WRITTEN,
    ),
    Family(
        model_type="gemma3",
        architecture="Gemma3ForConditionalGeneration",
        fields=gemma3_of_images,
        layout=SANDWICH,
        defaults={},
        renamed=(
            (r"^(model\.language_model|language_model\.model)\.", "model."),
            (r"^language_model\.lm_head\.", "lm_head."),
        ),
        ignored=(r"^(model\.)?(vision_tower|multi_modal_projector)\.",),
    ),
)
