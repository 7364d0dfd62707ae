"""The weights of a model under a family's names, in safetensors files.

Shapes: D head_dim, R the elements of a head that are rotated, the first ones.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hf.holding import Held
from model import TransformerConfig

MAX_SHARD_SIZE = "5GB"


def tensors(
    state: Mapping[str, Tensor], config: TransformerConfig, held: Held, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The family's tensors by name, in `dtype`, of a state dict of ours and its config."""
    if config.interleaved != held.config.interleaved:
        state = {name: _paired_anew(name, value, config) for name, value in state.items()}
    found = {}
    for weight in held.family.weights(held.config):
        ours = state.get(weight.ours)
        if ours is None:
            ours = _zeros(weight.ours, state)
        for name, theirs in zip(weight.theirs, weight.split(ours), strict=True):
            found[name] = theirs.to(dtype, memory_format=torch.contiguous_format, copy=True)
    return found


def save(found: Mapping[str, Tensor], directory: Path) -> None:
    """Write model.safetensors, or several files and an index where it would be a large one."""
    from huggingface_hub import split_torch_state_dict_into_shards

    shards = split_torch_state_dict_into_shards(dict(found), max_shard_size=MAX_SHARD_SIZE)
    for name, keys in shards.filename_to_tensors.items():
        _save_file({key: found[key] for key in keys}, directory / name)
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        text = json.dumps(index, indent=2) + "\n"
        (directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _save_file(part: dict[str, Tensor], path: Path) -> None:
    """Write one file. Raises OSError, which safetensors says in words of its own."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(part, path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _zeros(name: str, state: Mapping[str, Tensor]) -> Tensor:
    """A bias that the family has and the model has not."""
    kind = name.removesuffix(".bias")
    assert kind != name, name
    weight = state[f"{kind}.weight"]
    return weight.new_zeros(weight.shape[0])


def _paired_anew(name: str, value: Tensor, config: TransformerConfig) -> Tensor:
    """A tensor of the other pairing: rows of q and k, head by head, and the norms of both.

    Interleaved pairs (2i, 2i + 1) become (i, i + R/2), or the other way round.
    """
    order = _order(config)
    if name.endswith(("attention.q_norm.weight", "attention.k_norm.weight")):
        return value.unflatten(-1, (-1, config.head_width))[..., order].reshape(value.shape)
    if not name.endswith((".attention.qkv.weight", ".attention.qkv.bias")):
        return value
    heads = value.unflatten(0, (-1, config.head_width)).clone()  # (H + 2 Hk, D, ...)
    rotated = config.n_heads + config.kv_heads
    heads[:rotated] = heads[:rotated, order]
    return heads.flatten(0, 1)


def _order(config: TransformerConfig) -> Tensor:
    """Where each element of a head comes from: (D,)."""
    elements = torch.arange(config.head_width)
    rotated = elements[: config.rotary_dim]
    pairs = rotated.view(-1, 2).T if config.interleaved else rotated.view(2, -1).T
    return torch.cat((pairs.reshape(-1), elements[config.rotary_dim :]))
