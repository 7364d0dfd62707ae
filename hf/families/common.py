"""What the config.json of most families has in common."""

from typing import Any

from common.rules import integer, shown
from hf.keys import Keys, kinds
from hf.scaling_in import LAYER_TYPES

GATES = {"silu": "swiglu", "swish": "swiglu", "gelu_pytorch_tanh": "geglu", "gelu_new": "geglu"}
PLAIN = {
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "relu2": "relu2",
}


LAYERS = integer(1, 10_000, 12)


def depth(keys: Keys) -> int:
    """The number of layers."""
    return keys.ruled("num_hidden_layers", LAYERS)


def shape(keys: Keys) -> dict[str, Any]:
    """Vocabulary, depth, widths, heads, lengths and the tied head."""
    heads, width = keys.whole("num_attention_heads"), keys.whole("hidden_size")
    head_dim = keys.optional_whole("head_dim")
    if head_dim is None and width % heads:
        raise ValueError(
            f"num_attention_heads={heads}: must divide hidden_size={width}, or head_dim be given"
        )
    return {
        "vocab_size": keys.whole("vocab_size"),
        "n_layers": depth(keys),
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": keys.optional_whole("num_key_value_heads") or heads,
        "head_dim": head_dim or width // heads,
        "mlp_hidden": keys.whole("intermediate_size"),
        "tied_head": keys.flag("tie_word_embeddings"),
        "train_length": keys.whole("max_position_embeddings"),
        "interleaved": False,
    }


def layer_types(keys: Keys, types: list[str] | None) -> list[str]:
    """full_attention or sliding_attention for each layer."""
    n_layers, value = depth(keys), keys.value("layer_types")
    if value is None:
        return types or ["full_attention"] * n_layers
    rule = kinds(LAYER_TYPES)
    if not rule.holds(value) or len(value) != n_layers:
        raise ValueError(
            f"layer_types={shown(value)}: must be {n_layers} (num_hidden_layers) of "
            f"{' and '.join(LAYER_TYPES)}; other types cannot be expressed here"
        )
    return list(value)


def layers(types: list[str], window: int | None, nope: list[bool] | None = None) -> dict[str, Any]:
    """window, pattern and position of layers of these types; `nope`: which have no positions.

    A window of transformers counts the token itself, as ours does.
    """
    if "sliding_attention" in types and window is None:
        raise ValueError(
            "sliding_window=null: layer_types has sliding_attention, which needs its length"
        )
    nope = nope or [False] * len(types)
    named = [
        ("window" if kind == "sliding_attention" else "full") + ("-nope" if without else "")
        for kind, without in zip(types, nope, strict=True)
    ]
    return {
        "window": window if "sliding_attention" in types else None,
        "pattern": None if len(set(named)) == 1 else shortest(named),
        "position": "nope" if all(nope) else "rope",
    }


def shortest(names: list[str]) -> list[str]:
    """The shortest list whose repetition, cut off at the end, is `names`."""
    n = len(names)
    return next(
        names[:size]
        for size in range(1, n + 1)
        if all(names[i] == names[i % size] for i in range(n))
    )
