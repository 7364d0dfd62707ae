"""A Transformer with the weights of a folder in Hugging Face's layout.

The model is built without memory, and every parameter is made of its tensors, one by one, on the
device and in the dtype that it stays in: there is never a second copy of the model.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hf.description import Description, read
from hf.families.weight import Weight
from hf.weights import DTYPES, Stored, stored_weights
from model import Transformer, TransformerConfig

MOST_NAMED = 3  # tensors that a message names


def load(
    directory: str | Path,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
    where: str | None = None,
) -> Transformer:
    """The model of a folder, in eval mode.

    `dtype` None: the file's on a GPU, float32 on a CPU. `backend`: `rope.backend`. A head that is
    tied by config.json but stored, with other values than the embedding, is not tied.
    Raises ValueErrors as `read` does, and by name for tensors that are missing, unknown, of
    another shape or damaged; no memory is taken before the shapes are right.
    """
    where = where or f"checkpoint={directory}"
    description = read(directory, where, backend)
    stored = _stored(description, where)
    config = _tied_as_stored(description, stored, where)
    weights = description.family.weights(config)
    head = f"{description.family.layout.outer['head']}.weight"
    _check_names(weights, stored, {head} if config.tied_head else set(), where)
    with torch.device("meta"):
        model = Transformer(config)
    _check_shapes(weights, stored, model.state_dict(), where)
    device = torch.device(device)
    if dtype is None:
        dtype = _dtype_of(stored) if device.type == "cuda" else torch.float32
    state = {one.ours: _made(one, stored, device, dtype, where) for one in weights}
    if config.tied_head:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def _stored(description: Description, where: str) -> dict[str, Stored]:
    """The tensors of the folder by the names of the family's layout."""
    family = description.family
    stored = stored_weights(description.directory, family.called, where)
    head, embedding = (f"{family.layout.outer[name]}.weight" for name in ("head", "embedding"))
    if embedding not in stored and embedding.removeprefix(family.base) in stored:
        # A model without its head, as some of them are stored
        stored = {
            name if name.startswith(_module(head)) else family.base + name: tensor
            for name, tensor in stored.items()
        }
    if embedding not in stored and head in stored and description.config.tied_head:
        stored[embedding] = stored[head]
    return stored


def _tied_as_stored(
    description: Description, stored: Mapping[str, Stored], where: str
) -> TransformerConfig:
    """The config, whose head is tied only if the file has no other one."""
    config, outer = description.config, description.family.layout.outer
    head, embedding = (stored.get(f"{outer[name]}.weight") for name in ("head", "embedding"))
    if not config.tied_head or head is None or embedding is None or head == embedding:
        return config
    same = head.shape == embedding.shape and torch.equal(head.read(where), embedding.read(where))
    return config if same else replace(config, tied_head=False)


def _check_names(
    weights: list[Weight], stored: Mapping[str, Stored], spare: set[str], where: str
) -> None:
    """ValueError for tensors that are missing or that no parameter is made of, but for `spare`."""
    wanted = {name for one in weights for name in one.theirs}
    if missing := sorted(wanted - stored.keys()):
        raise ValueError(
            f"{where}: its files lack {_few(missing)}, which the model of its config.json has"
        )
    if extra := stored.keys() - wanted - spare:
        raise ValueError(
            f"{where}: its files have {_few(sorted(extra))}, which the model of its config.json "
            "has no place for"
        )


def _check_shapes(
    weights: list[Weight], stored: Mapping[str, Stored], empty: Mapping[str, Tensor], where: str
) -> None:
    """ValueError for a tensor of another shape or type than the model of config.json has."""
    for one in weights:
        for name, tensor in zip(one.theirs, one.split(empty[one.ours]), strict=True):
            found, shape = stored[name], tuple(tensor.shape)
            if found.shape != shape:
                raise ValueError(
                    f"{where}: {found.name} in {found.file.name} is {list(found.shape)}, where "
                    f"its config.json makes it {list(shape)}"
                )
            if found.dtype not in DTYPES:
                raise ValueError(
                    f"{where}: {found.name} in {found.file.name} is of type {found.dtype}; what "
                    f"can be read is {', '.join(DTYPES)}"
                )


def _made(
    weight: Weight,
    stored: Mapping[str, Stored],
    device: torch.device,
    dtype: torch.dtype,
    where: str,
) -> Tensor:
    """One parameter, in memory of its own."""
    joined = weight.join([stored[name].read(where) for name in weight.theirs])
    contiguous = torch.contiguous_format
    return joined.to(device=device, dtype=dtype, copy=True, memory_format=contiguous)


def _dtype_of(stored: Mapping[str, Stored]) -> torch.dtype:
    """The type that most numbers of the files have."""
    sizes: dict[str, int] = {}
    for one in stored.values():
        sizes[one.dtype] = sizes.get(one.dtype, 0) + math.prod(one.shape)
    return getattr(torch, DTYPES[max(sizes, key=lambda name: sizes[name])])


def _module(name: str) -> str:
    return name.removesuffix("weight")


def _few(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
