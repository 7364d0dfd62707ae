"""config.json of each family, written for a model that it may be able to hold.

A writer says of a model what its family has keys for, and nothing else: whether the family holds
all of it is found by reading it back (`hf.holding`). The families stand in the order in which they
are tried, the most widely read ones first.
"""

import math
from collections.abc import Callable
from typing import Any

from hf.scaling_out import NO_POSITIONS, is_read_by, rope_parameters
from model import TransformerConfig

Raw = dict[str, Any]
Writer = Callable[[TransformerConfig, int], Raw]
_GATES = {"swiglu": "silu", "geglu": "gelu_pytorch_tanh"}
_PLAIN = {"gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh", "relu2": "relu2"}


def write_config(family: str, config: TransformerConfig, max_length: int) -> Raw:
    """config.json of the family, a `model_type`; `max_length`: its max_position_embeddings."""
    return {"model_type": family, **WRITERS[family](config, max_length)}


def _shape(config: TransformerConfig, max_length: int) -> Raw:
    """The keys that nearly all families have, of those whose MLP has a gate."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.mlp_width,
        "hidden_act": _GATES.get(config.mlp, "silu"),
        "max_position_embeddings": max_length,
        "tie_word_embeddings": config.tied_head,
    }


def _rms(config: TransformerConfig, max_length: int) -> Raw:
    """The same and the norms' epsilon, of families with RMS norms."""
    return {**_shape(config, max_length), "rms_norm_eps": config.norm_eps}


def _plain(config: TransformerConfig) -> Raw:
    """The activation of an MLP without a gate."""
    return {"hidden_act": _PLAIN.get(config.mlp, "gelu")}


def _rope(config: TransformerConfig) -> Raw:
    """The rotation of whole heads, in every layer."""
    found = rope_parameters(config) or {"rope_type": "default", "rope_theta": config.theta}
    if found["rope_type"] != "proportional":
        found.pop("partial_rotary_factor", None)
    return {"rope_parameters": found}


def _rope_of_a_part(config: TransformerConfig) -> Raw:
    """The rotation of a part of each head, which is named in any case: defaults differ."""
    share = {"partial_rotary_factor": 1.0}
    return {
        "rope_parameters": {
            **share,
            **(rope_parameters(config) or _rope(config)["rope_parameters"]),
        }
    }


def _rope_or_none(config: TransformerConfig) -> Raw:
    """The rotation; where no layer has positions, one that turns nothing, which is the same."""
    nowhere = all(layer.position == "nope" for layer in config.layers)
    if nowhere and config.position in ("rope", "nope"):
        return {"rope_parameters": dict(NO_POSITIONS)}
    return _rope(config)


def _layer_types(config: TransformerConfig) -> Raw:
    windows = [layer.window for layer in config.layers]
    types = ["full_attention" if w is None else "sliding_attention" for w in windows]
    return {"layer_types": types, "sliding_window": config.window if any(windows) else None}


def _check_divides(config: TransformerConfig) -> None:
    """For families that transformers refuses otherwise, though they have a head_dim."""
    if config.d_model % config.n_heads:
        raise ValueError(
            f"model.d_model={config.d_model} that model.n_heads={config.n_heads} does not divide"
        )


def _either_bias(config: TransformerConfig) -> bool:
    return config.qkv_bias or config.out_bias


# Families of RMS norms before each branch


def _llama(config: TransformerConfig, max_length: int) -> Raw:
    _check_divides(config)
    biases = {"attention_bias": _either_bias(config), "mlp_bias": config.mlp_bias}
    return {**_rms(config, max_length), **biases, **_rope(config)}


def _mistral(config: TransformerConfig, max_length: int) -> Raw:
    window = config.window if all(layer.window for layer in config.layers) else None
    return {**_rms(config, max_length), "sliding_window": window, **_rope(config)}


def _smollm3(config: TransformerConfig, max_length: int) -> Raw:
    types = _layer_types(config)
    return {
        **_rms(config, max_length),
        **types,
        "use_sliding_window": types["sliding_window"] is not None,
        "no_rope_layers": [int(layer.position == "rope") for layer in config.layers],
        "attention_bias": _either_bias(config),
        "mlp_bias": config.mlp_bias,
        **_rope(config),
    }


def _qwen3(config: TransformerConfig, max_length: int) -> Raw:
    bias = {"attention_bias": _either_bias(config)}
    return {**_qwen2(config, max_length), **bias, **_rope_or_none(config)}


def _qwen2(config: TransformerConfig, max_length: int) -> Raw:
    types = _layer_types(config)
    sliding = {"use_sliding_window": types["sliding_window"] is not None}
    return {**_rms(config, max_length), **types, **sliding, **_rope(config)}


def _glm(config: TransformerConfig, max_length: int) -> Raw:
    bias = {"attention_bias": config.qkv_bias}
    return {**_rms(config, max_length), **bias, **_rope_of_a_part(config)}


def _phi3(config: TransformerConfig, max_length: int) -> Raw:
    found = _mistral(config, max_length) | _rope_of_a_part(config)
    if not is_read_by("phi3", found["rope_parameters"]["rope_type"]):
        found["rope_parameters"] = {"rope_type": "default", "rope_theta": config.theta}
    return found


def _arcee(config: TransformerConfig, max_length: int) -> Raw:
    _check_divides(config)
    return {**_apertus(config, max_length), "mlp_bias": config.mlp_bias}


def _apertus(config: TransformerConfig, max_length: int) -> Raw:
    own = {"attention_bias": _either_bias(config), **_plain(config)}
    return {**_rms(config, max_length), **own, **_rope_or_none(config)}


# Other blocks with RMS norms


def _olmo2(config: TransformerConfig, max_length: int) -> Raw:
    return {**_rms(config, max_length), "attention_bias": _either_bias(config), **_rope(config)}


def _glm4(config: TransformerConfig, max_length: int) -> Raw:
    return _glm(config, max_length)


def _gemma(config: TransformerConfig, max_length: int) -> Raw:
    found = _rms(config, max_length) | {"hidden_act": "gelu_pytorch_tanh"}
    return {**found, "attention_bias": _either_bias(config), **_rope(config)}


def _gemma2(config: TransformerConfig, max_length: int) -> Raw:
    _check_divides(config)
    found = _gemma(config, max_length) | _layer_types(config)
    del found["hidden_act"]
    found["sliding_window"] = config.window or max_length  # asked for even where no layer has one
    scale = config.attention_scale or config.head_width**-0.5
    return found | {
        "hidden_activation": _GATES.get(config.mlp, "gelu_pytorch_tanh"),
        "query_pre_attn_scalar": round(scale**-2),
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
    }


def _gemma3(config: TransformerConfig, max_length: int) -> Raw:
    found = _gemma2(config, max_length)
    del found["attn_logit_softcapping"]
    full = found["rope_parameters"]
    local = {"rope_type": "default", "rope_theta": config.local_theta}
    of_window = full if config.local_theta is None else local
    rope = {"full_attention": full, "sliding_attention": of_window}
    return found | {"rope_parameters": rope}


# Families of layer norms


def _layer_norms(config: TransformerConfig, max_length: int) -> Raw:
    return {**_shape(config, max_length), "layer_norm_eps": config.norm_eps, **_rope(config)}


def _cohere(config: TransformerConfig, max_length: int) -> Raw:
    return {
        **_layer_norms(config, max_length),
        "logit_scale": 1.0 if config.logit_scale is None else config.logit_scale,
        "use_qk_norm": bool(config.qk_norm),
        "attention_bias": _either_bias(config),
    }


def _cohere2(config: TransformerConfig, max_length: int) -> Raw:
    found = _cohere(config, max_length) | _layer_types(config)
    del found["use_qk_norm"]
    return found


def _gpt_neox(config: TransformerConfig, max_length: int) -> Raw:
    found = _layer_norms(config, max_length)
    for key in ("num_key_value_heads", "head_dim"):  # of which it has no choice
        del found[key]
    parallel = {"use_parallel_residual": config.block == "parallel"}
    bias = {"attention_bias": _either_bias(config)}
    return {**found, **parallel, **bias, **_plain(config), **_rope_of_a_part(config)}


def _phi(config: TransformerConfig, max_length: int) -> Raw:
    found = _layer_norms(config, max_length)
    del found["head_dim"]
    return {**found, **_plain(config), **_rope_of_a_part(config)}


def _gpt2(config: TransformerConfig, max_length: int) -> Raw:
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.mlp_width,
        "n_positions": config.max_length or max_length,
        "activation_function": _plain(config)["hidden_act"],
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_head,
        "scale_attn_weights": not math.isclose(config.attention_scale or 0.5, 1.0),
    }


def _mpt(config: TransformerConfig, max_length: int) -> Raw:
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "max_seq_len": max_length,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_head,
        "attn_config": {"alibi": True, "softmax_scale": config.attention_scale},
    }


WRITERS: dict[str, Writer] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen3": _qwen3,
    "qwen2": _qwen2,
    "smollm3": _smollm3,
    "phi3": _phi3,
    "arcee": _arcee,
    "apertus": _apertus,
    "glm": _glm,
    "glm4": _glm4,
    "olmo2": _olmo2,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gpt_neox": _gpt_neox,
    "phi": _phi,
    "cohere": _cohere,
    "cohere2": _cohere2,
    "gpt2": _gpt2,
    "mpt": _mpt,
}
