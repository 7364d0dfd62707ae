"""Llama and those that differ from it in a bias, a norm of q and k, windows, or positions."""

from typing import Any

from common.rules import integer, shown
from hf.families.common import GATES, depth, layer_types, layers, shape
from hf.families.family import Family, Layout
from hf.keys import FLAGS, Keys
from hf.scaling_in import rope_fields

OUTER = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
ATTENTION = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "attention.out": "self_attn.o_proj",
}
MLP = {"mlp.up": ("mlp.gate_proj", "mlp.up_proj"), "mlp.down": "mlp.down_proj"}
NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
BLOCK = "model.layers.{}."
LAYOUT = Layout(OUTER, BLOCK, {**NORMS, **ATTENTION, **MLP})

FIRST = integer(0, 2**40, 28)
DEFAULTS = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
    "attention_bias": False,
    "mlp_bias": False,
}


def decoder(keys: Keys, theta: float = 10000.0) -> dict[str, Any]:
    """What all of them have: a shape, RMSNorms before the branches, a gated MLP, RoPE."""
    fields = shape(keys)
    return {
        **fields,
        "mlp": keys.named("hidden_act", GATES),
        "norm_eps": keys.number("rms_norm_eps"),
        **rope_fields(keys, fields["head_dim"], theta=theta),
    }


def biases(keys: Keys) -> dict[str, bool]:
    """The switches of Llama, where q, k, v and the output have a bias or have none."""
    attention = keys.flag("attention_bias")
    return {"qkv_bias": attention, "out_bias": attention, "mlp_bias": keys.flag("mlp_bias")}


def switched_window(keys: Keys) -> tuple[int | None, list[str]]:
    """Qwen's: a window that has a switch, in the layers from `max_window_layers` on."""
    on, window = keys.flag("use_sliding_window"), keys.optional_whole("sliding_window")
    first = keys.ruled("max_window_layers", FIRST)
    if not on or window is None:
        return None, layer_types(keys, None)
    types = ["sliding_attention" if i >= first else "full_attention" for i in range(depth(keys))]
    return window, layer_types(keys, types)


def llama(keys: Keys) -> dict[str, Any]:
    """Llama 1 to 3, SmolLM2, and all that call themselves llama."""
    keys.only("rope_interleaved", False, because="the family rotates half-split pairs")
    return {**decoder(keys), **biases(keys)}


def mistral(keys: Keys) -> dict[str, Any]:
    """Mistral: a window in every layer, or in none."""
    window, n_layers = keys.optional_whole("sliding_window"), depth(keys)
    kind = "full_attention" if window is None else "sliding_attention"
    if any(one != kind for one in layer_types(keys, [kind] * n_layers)):
        raise ValueError(
            f"layer_types={shown(keys.value('layer_types'))}: model_type=mistral has the same in "
            f"every layer, {kind} with sliding_window={shown(window)}"
        )
    return {**decoder(keys), **layers([kind] * n_layers, window)}


def qwen2(keys: Keys) -> dict[str, Any]:
    """Qwen 2 and 2.5: q, k and v with a bias."""
    keys.only("use_mrope", False, because="positions of several axes are not")
    window, types = switched_window(keys)
    return {**decoder(keys), "qkv_bias": True, **layers(types, window)}


def qwen3(keys: Keys) -> dict[str, Any]:
    """Qwen 3: q and k normalised, head by head."""
    attention = keys.flag("attention_bias")
    window, types = switched_window(keys)
    bias = {"qkv_bias": attention, "out_bias": attention}
    return {**decoder(keys), "qk_norm": True, **bias, **layers(types, window)}


def smollm3(keys: Keys) -> dict[str, Any]:
    """SmolLM 3: every fourth layer without positions."""
    n_layers, interval = depth(keys), keys.whole("no_rope_layer_interval")
    rope = keys.value("no_rope_layers")
    if rope is None:
        rope = [int((i + 1) % interval != 0) for i in range(n_layers)]
    elif not FLAGS.holds(rope) or len(rope) < n_layers:
        raise ValueError(
            f"no_rope_layers={shown(rope)}: must be 1 (positions) or 0 for each of "
            f"num_hidden_layers={n_layers}"
        )
    nope = [not one for one in rope[:n_layers]]
    on, window = keys.flag("use_sliding_window"), keys.optional_whole("sliding_window")
    windowed = on and window is not None
    types = ["sliding_attention" if windowed and no else "full_attention" for no in nope]
    types = layer_types(keys, types)
    if not on:  # the switch goes before the list
        types = ["full_attention"] * n_layers
    return {**decoder(keys, 2e6), **biases(keys), **layers(types, window, nope)}


QWEN = {
    **DEFAULTS,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "num_key_value_heads": 32,
}
FAMILIES = (
    Family(
        model_type="llama",
        architecture="LlamaForCausalLM",
        fields=llama,
        layout=LAYOUT,
        defaults=DEFAULTS,
    ),
    Family(
        model_type="mistral",
        architecture="MistralForCausalLM",
        fields=mistral,
        layout=LAYOUT,
        defaults={
            **DEFAULTS,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
            "num_key_value_heads": 8,
        },
    ),
    Family(
        model_type="qwen2",
        architecture="Qwen2ForCausalLM",
        fields=qwen2,
        layout=LAYOUT,
        defaults=QWEN,
    ),
    Family(
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        fields=qwen3,
        layout=LAYOUT,
        defaults={**QWEN, "head_dim": 128},
    ),
    Family(
        model_type="smollm3",
        architecture="SmolLM3ForCausalLM",
        fields=smollm3,
        layout=LAYOUT,
        defaults={
            **DEFAULTS,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "no_rope_layer_interval": 4,
        },
        harmless=frozenset({"max_window_layers"}),  # left over from Qwen
    ),
)
