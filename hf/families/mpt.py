"""MPT: ALiBi in the place of rotary positions, LayerNorms without bias, no bias anywhere."""

from typing import Any

from hf.families.family import Family, Layout
from hf.keys import Keys


def mpt(keys: Keys) -> dict[str, Any]:
    """MPT 7B and 30B as transformers has them."""
    heads, width = keys.whole("n_heads"), keys.whole("d_model")
    if width % heads:
        raise ValueError(f"n_heads={heads}: must divide d_model={width}")
    keys.only("expansion_ratio", 4, because="transformers' MPT has no other width")
    keys.only("no_bias", True, because="transformers' MPT has no bias")
    keys.only("norm_type", "low_precision_layernorm", because="transformers has no other there")
    return {
        "vocab_size": keys.whole("vocab_size"),
        "n_layers": keys.whole("n_layers"),
        "d_model": width,
        "n_heads": heads,
        "head_dim": width // heads,
        "mlp_hidden": 4 * width,
        "tied_head": keys.flag("tie_word_embeddings"),
        "train_length": keys.whole("max_seq_len"),
        "position": "alibi",
        "norm": "layer",
        "norm_eps": keys.number("layer_norm_epsilon"),
        "mlp": "gelu",
        "attention_scale": _attention(keys.mapping("attn_config")),
    }


def _attention(given: dict[str, Any]) -> float | None:
    """The scale of the scores; ValueError for an attention that is not that of `mpt`."""
    keys = Keys(given)
    keys.only("alibi", True, because="transformers' MPT has no other positions")
    keys.only("alibi_bias_max", 8, because="the slopes are those of ALiBi's authors")
    keys.only("clip_qkv", None, because="q, k and v are not clipped here")
    keys.only("attn_type", "multihead_attention", because="heads of k and v are as many as of q")
    for key in ("qk_ln", "prefix_lm"):
        keys.only(key, False, because="is not read")
    scale = keys.optional_number("softmax_scale")
    keys.refuse_unread({"attn_uses_sequence_id", "attn_impl"})
    return scale


LAYOUT = Layout(
    {"embedding": "transformer.wte", "norm": "transformer.norm_f", "head": "lm_head"},
    "transformer.blocks.{}.",
    {
        "attention_norm": "norm_1",
        "attention.qkv": "attn.Wqkv",
        "attention.out": "attn.out_proj",
        "mlp_norm": "norm_2",
        "mlp.up": "ffn.up_proj",
        "mlp.down": "ffn.down_proj",
    },
)
FAMILIES = (
    Family(
        model_type="mpt",
        architecture="MptForCausalLM",
        fields=mpt,
        layout=LAYOUT,
        defaults={
            "d_model": 2048,
            "n_heads": 16,
            "n_layers": 24,
            "max_seq_len": 2048,
            "vocab_size": 50368,
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
        },
        base="transformer.",
        harmless=frozenset({"learned_pos_emb", "init_device", "embedding_fraction"}),
    ),
)
