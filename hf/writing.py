"""A model as a directory that transformers loads: config, weights, tokenizer, generation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.files import write_text
from data import Tokenizer
from hf.holding import Held
from hf.tokenizer_out import special_ids, tokenizer_files
from hf.weights_out import save, tensors
from model import Transformer


def write(
    directory: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    held: Held,
    dtype: str,
    sampling: Mapping[str, Any],
) -> None:
    """Fill an empty directory with `model` as `held` has it.

    `dtype`: float32, bfloat16 or float16. `sampling`: the arguments of `model.generate` that
    generation_config.json is to say.
    """
    ids = special_ids(tokenizer)
    ends = {f"{role}_token_id": ids.get(role) for role in ("bos", "eos")}
    # No pad_token_id: nn.Embedding would no longer train the token, which ends texts as well.
    config = {**held.raw, **ends, "pad_token_id": None, "dtype": dtype}
    generation = {**_generation(sampling), **ends, "pad_token_id": ids.get("pad")}
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", generation)
    assert held.config.train_length is not None  # as the family reads it
    for name, text in tokenizer_files(tokenizer, held.config.train_length).items():
        write_text(directory / name, text)
    found = tensors(model.state_dict(), model.config, held, getattr(torch, dtype))
    save(found, directory)
    for file in directory.iterdir():  # safetensors writes files that nobody else may read
        file.chmod((directory / "config.json").stat().st_mode)


def _generation(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The same names there, where 0 is no top_k: left out, it would be 50."""
    found = {"do_sample": True, **sampling, "top_k": sampling["top_k"] or 0}
    return {key: value for key, value in found.items() if value is not None}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
