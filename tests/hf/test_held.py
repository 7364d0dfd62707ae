"""What a family is said to hold, it holds: for every family, its model changed in one setting."""

from pathlib import Path
from typing import Any

import pytest
import torch

from commands import some
from exported import LENGTH, export, loaded, logits, random, small
from hf.config_out import WRITERS
from hf.families import FAMILIES
from model import ScalingConfig

LAYER = {"norm": "layer", "norm_bias": True, "qkv_bias": True, "out_bias": True, "mlp_bias": True}
BARE = {"norm": "layer", "norm_eps": 1e-5}
SHARED = {**BARE, "block": "parallel-shared", "logit_scale": 0.5}
ALL_HEADS = {"n_kv_heads": None}
LONG = {"train_length": 3 * LENGTH, **ALL_HEADS}
SANDWICH = {"mlp": "geglu", "embedding_scale": 32**0.5, "block": "sandwich"}
OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"window": 5},
    "qwen3": {"qk_norm": True},
    "qwen2": {"qkv_bias": True},
    "smollm3": {"window": 5, "pattern": ["window", "full-nope"]},
    "phi3": {"fraction": 0.5},
    "arcee": {"mlp": "relu2"},
    "apertus": {"mlp": "relu2", "qk_norm": True},
    "glm": {"fraction": 0.5, "qkv_bias": True},
    "glm4": {"block": "sandwich", "fraction": 0.5},
    "olmo2": {"block": "post", "qk_norm": "width"},
    "gemma": {"mlp": "geglu", "embedding_scale": 32**0.5},
    "gemma2": {**SANDWICH, "attention_softcap": 20.0, "logit_softcap": 10.0},
    "gemma3_text": {**SANDWICH, "qk_norm": True},
    "gpt_neox": {**LAYER, **ALL_HEADS, "mlp": "gelu", "fraction": 0.5, "block": "parallel"},
    "phi": {**LAYER, "head_bias": True, "tied_head": False, "mlp": "gelu-tanh", "fraction": 0.5}
    | {"block": "parallel-shared"},
    "cohere": {**SHARED, "qk_norm": "heads"},
    "cohere2": {**SHARED, "window": 5, "pattern": ["window", "full-nope"]},
    "gpt2": {**LAYER, **LONG, "position": "learned", "mlp": "gelu-tanh"},
    "mpt": {**BARE, **LONG, "position": "alibi", "mlp": "gelu", "mlp_hidden": 128},
}
YARN, LINEAR = ScalingConfig("yarn", 4.0, LENGTH), ScalingConfig("linear", 4.0)
CHANGES: list[dict[str, Any]] = [
    {},
    {"head_dim": 12},
    {"n_heads": 3, "n_kv_heads": 3, "head_dim": 12},
    {"n_kv_heads": 1},
    {"tied_head": False},
    {"tied_head": True, "head_bias": False},
    {"interleaved": False},
    {"qkv_bias": True},
    {"qkv_bias": True, "out_bias": True},
    {"qkv_bias": False, "out_bias": False, "mlp_bias": False},
    {"mlp_bias": True},
    {"norm_bias": False},
    {"norm_eps": 1e-3},
    {"mlp": "geglu"},
    {"mlp": "swiglu"},
    {"mlp": "relu2"},
    {"mlp": "gelu"},
    {"mlp_hidden": 40},
    {"fraction": 0.25},
    {"fraction": 1.0},
    {"theta": 300.0},
    {"scaling": YARN},
    {"scaling": LINEAR},
    {"scaling": ScalingConfig("ntk", 4.0)},
    {"scaling": ScalingConfig("proportional", None, None, {"partial_rotary_factor": 0.5})},
    {"scaling": ScalingConfig("dynamic", None, LENGTH)},
    {"position": "nope"},
    {"window": None, "pattern": None},
    {"window": 7, "pattern": None},
    {"window": 7, "pattern": ["full", "window"]},
    {"window": 7, "pattern": ["full", "window"], "local_theta": 300.0},
    {"window": 7, "pattern": ["full", "window"], "local_theta": 300.0, "scaling": LINEAR},
    {"window": 7, "pattern": ["window", "full-nope"], "scaling": LINEAR},
    {"qk_norm": False},
    {"qk_norm": True},
    {"attention_scale": 0.25},
    {"attention_scale": 0.3},
    {"attention_scale": 1.0},
    {"embedding_scale": None},
    {"embedding_scale": 2.0},
    {"logit_scale": 0.25},
    {"logit_softcap": 5.0},
    {"attention_softcap": 5.0},
    {"block": "pre"},
    {"block": "parallel"},
    {"norm": "rms", "norm_bias": False},
    {"norm": "layer"},
]


@pytest.mark.parametrize("family", OWN)
@pytest.mark.parametrize("changed", some(CHANGES, default=1), ids=str)
def test_what_a_family_is_said_to_hold(family: str, changed: dict, tmp_path: Path) -> None:
    try:
        model = random(small(**{**OWN[family], **changed}))
    except ValueError:
        return  # no model
    try:
        export(tmp_path / "out", model, family=family)
    except ValueError as error:
        assert changed and str(error).startswith(f"family={family}: has no ")
        return
    tokens = torch.randint(0, 256, (2, 3 * LENGTH))
    theirs = logits(loaded(tmp_path / "out"), tokens)
    torch.testing.assert_close(theirs, logits(model, tokens), atol=1e-4, rtol=0)


def test_every_family_can_be_written() -> None:
    """All but the one that has eyes."""
    assert OWN.keys() == WRITERS.keys() == FAMILIES.keys() - {"gemma3"}
