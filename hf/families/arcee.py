"""Families of RMSNorms and RoPE whose MLP has no gate: Arcee, and Apertus with norms of q and k."""

from typing import Any

from hf.families.common import PLAIN, shape
from hf.families.family import Family, Layout
from hf.families.llama import ATTENTION, BLOCK, DEFAULTS, NORMS, OUTER, biases
from hf.keys import Keys
from hf.scaling_in import rope_fields

MLP = {"mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"}


def _decoder(keys: Keys, theta: float) -> dict[str, Any]:
    fields = shape(keys)
    return {
        **fields,
        "mlp": keys.named("hidden_act", PLAIN),
        "norm_eps": keys.number("rms_norm_eps"),
        **rope_fields(keys, fields["head_dim"], theta=theta),
    }


def arcee(keys: Keys) -> dict[str, Any]:
    """Arcee (AFM): Llama with a squared ReLU."""
    return {**_decoder(keys, 1e4), **biases(keys)}


def apertus(keys: Keys) -> dict[str, Any]:
    """Apertus with an activation that is known here; its own, xIELU, is not."""
    attention = keys.flag("attention_bias")
    bias = {"qkv_bias": attention, "out_bias": attention}
    return {**_decoder(keys, 1.2e7), **bias, "qk_norm": True}


FAMILIES = (
    Family(
        model_type="arcee",
        architecture="ArceeForCausalLM",
        fields=arcee,
        layout=Layout(OUTER, BLOCK, {**NORMS, **ATTENTION, **MLP}),
        defaults={**DEFAULTS, "hidden_act": "relu2", "rms_norm_eps": 1e-5}
        | {"max_position_embeddings": 4096},
    ),
    Family(
        model_type="apertus",
        architecture="ApertusForCausalLM",
        fields=apertus,
        layout=Layout(
            OUTER,
            BLOCK,
            {"attention_norm": "attention_layernorm", "mlp_norm": "feedforward_layernorm"}
            | {**ATTENTION, **MLP},
        ),
        defaults={**DEFAULTS, "hidden_act": "xielu", "rms_norm_eps": 1e-5}
        | {"max_position_embeddings": 65536},
    ),
)
