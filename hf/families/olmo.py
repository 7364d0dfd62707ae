"""OLMo 2: norms after the branches, q and k each normalised over all heads together."""

from typing import Any

from hf.families import llama
from hf.families.family import Family, Layout
from hf.keys import Keys


def olmo2(keys: Keys) -> dict[str, Any]:
    """OLMo 2."""
    attention = keys.flag("attention_bias")
    bias = {"qkv_bias": attention, "out_bias": attention}
    return {**llama.decoder(keys), **bias, "block": "post", "qk_norm": "width"}


NORMS = {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"}
FAMILIES = (
    Family(
        model_type="olmo2",
        architecture="Olmo2ForCausalLM",
        fields=olmo2,
        layout=Layout(llama.OUTER, llama.BLOCK, {**NORMS, **llama.ATTENTION, **llama.MLP}),
        defaults={**llama.DEFAULTS, "rms_norm_eps": 1e-5},
    ),
)
