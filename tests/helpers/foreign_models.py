"""Small random models of transformers, of every family that can be read, saved as folders."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GQA = {**SHAPE, "num_key_value_heads": 2}
WIDE = {**GQA, "head_dim": 16}  # wider than hidden_size / num_attention_heads
EVERY_OTHER = ["full_attention", "sliding_attention", "full_attention"]
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 9}
DEEP = {"num_hidden_layers": 4}
GPT2 = {"n_embd": 48, "n_head": 4, "n_layer": 3, "n_positions": 64, "vocab_size": 97}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ROPE = {"rope_type": "default", "rope_theta": 5000.0}

# By a name whose part before the dash is the model_type: the arguments of its config.
CASES: dict[str, dict[str, Any]] = {
    "llama": {**GQA, "rope_parameters": ROPE},
    "llama-biased": {**WIDE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "mistral": {**WIDE, "sliding_window": 5},
    "mistral-full": {**GQA, "sliding_window": None},
    "qwen2": {**GQA, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen2-full": {**GQA, "tie_word_embeddings": True},
    "qwen3": {
        **WIDE,
        "use_sliding_window": True,
        "sliding_window": 4,
        "layer_types": EVERY_OTHER,
    },
    "qwen3-biased": {**WIDE, "attention_bias": True},
    "smollm3": {**GQA, "no_rope_layer_interval": 3},
    "smollm3-windows": {
        **GQA,
        **DEEP,
        "no_rope_layers": [1, 0, 0, 1],
        "use_sliding_window": True,
        "sliding_window": 5,
    },
    "olmo2": GQA,
    "olmo2-biased": {**SHAPE, "attention_bias": True, "tie_word_embeddings": True},
    "gemma": {**WIDE, "num_key_value_heads": 1},
    "gemma2": {**WIDE, **CAPS, "sliding_window": 5},
    "gemma2-uncapped": {**WIDE, "attn_logit_softcapping": None, "final_logit_softcapping": None},
    "gemma3_text": {
        **WIDE,
        "sliding_window": 5,
        "layer_types": EVERY_OTHER,
        "query_pre_attn_scalar": 9,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 20000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 900.0},
        },
    },
    "gpt_neox": {**SHAPE, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}},
    "gpt_neox-sequential": {
        **SHAPE,
        "rope_parameters": {**ROPE, "partial_rotary_factor": 1.0},
        "use_parallel_residual": False,
        "attention_bias": False,
    },
    "phi": {**GQA, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}},
    "phi-tied": {**GQA, "tie_word_embeddings": True},
    "phi3": {**GQA, "sliding_window": 6},
    "phi3-partial": {**GQA, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}},
    "cohere": {**GQA, "logit_scale": 0.5, "use_qk_norm": True},
    "cohere-biased": {**GQA, "attention_bias": True, "tie_word_embeddings": False},
    "cohere2": {**GQA, **DEEP, "sliding_window": 5, "logit_scale": 0.7},
    "glm": {**WIDE, "attention_bias": True},
    "glm4": {**WIDE, "attention_bias": False},
    "gpt2": {**GPT2, **IDS},
    "gpt2-unscaled": {**GPT2, **IDS, "scale_attn_weights": False, "n_inner": 70},
}
FAMILIES = [name for name in CASES if "-" not in name]


def foreign_model(case: str, **changed: Any) -> Any:
    """A model of transformers, in eval mode, with no parameter at a neutral value."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(sum(map(ord, case)))
    config = AutoConfig.for_model(case.split("-")[0], **{**CASES[case], **changed})
    for key in ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"):
        if hasattr(config, key):
            setattr(config, key, 0.05)  # so large that it tells
    # SDPA has no soft cap
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomise(model)
    return model


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Matrices wide enough to matter, norms around their own middle, biases that are not zero."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim == 1 or name.endswith("_norm.weight"):
            parameter.add_(noise * 0.3)
        else:
            parameter.copy_(noise * (0.5 if "emb" in name or "wte" in name else 0.25))


def saved(case: str, folder: Path, **changed: Any) -> tuple[Any, Path]:
    """The model of transformers, and the folder that it was saved to."""
    model = foreign_model(case, **changed)
    model.save_pretrained(folder)
    return model, folder


def prompts() -> list[Tensor]:
    """Three prompts (1, S): one token, some within most windows, some past them."""
    random = torch.Generator().manual_seed(7)
    return [torch.randint(3, 97, (1, length), generator=random) for length in (1, 4, 23)]


def left_padded(texts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One batch (B, S) of prompts that end together, and its mask: zero at padding."""
    longest = max(text.shape[1] for text in texts)
    tokens = torch.zeros(len(texts), longest, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for row, text in enumerate(texts):
        tokens[row, longest - text.shape[1] :] = text[0]
        mask[row, longest - text.shape[1] :] = 1
    return tokens, mask
