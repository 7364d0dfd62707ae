"""Folders in Hugging Face's layout, written without transformers."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hf.families import FAMILIES
from model import Transformer, TransformerConfig

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}


def write_config(folder: Path, raw: dict[str, Any]) -> Path:
    """A config.json of these keys."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def tensors(raw: dict[str, Any], seed: int = 0) -> tuple[Transformer, dict[str, Tensor]]:
    """A random model of a config.json, and its tensors as that family stores them."""
    family = FAMILIES[raw["model_type"]]
    torch.manual_seed(seed)
    model = Transformer(TransformerConfig(**family.read_config(raw))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    state, stored = model.state_dict(), {}
    for weight in family.weights(model.config):
        parts = weight.split(state[weight.ours])
        stored |= {n: part.clone() for n, part in zip(weight.theirs, parts, strict=True)}
    return model, stored


def write_folder(folder: Path, raw: dict[str, Any] | None = None) -> Transformer:
    """A folder with a random model; returns the model."""
    raw = {**LLAMA, **(raw or {})}
    model, stored = tensors(raw)
    write_config(folder, raw)
    save_file(stored, folder / "model.safetensors")
    return model


def write_shards(folder: Path, stored: dict[str, Tensor], n: int = 3) -> None:
    """The tensors in n files with an index."""
    weight_map = {}
    for i in range(n):
        file = f"model-{i + 1:05}-of-{n:05}.safetensors"
        names = sorted(stored)[i::n]
        save_file({name: stored[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    write_index(folder, weight_map)


def write_index(folder: Path, weight_map: Any) -> None:
    """The index of shards."""
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
