"""Starting a new run with the model and the weights of another one (`init_from`).

The other one is a run of this project, or a model from elsewhere in Hugging Face's layout.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import hf
from common.plain import plain_problem
from common.rules import shown
from common.terminal import say
from data import SubwordTokenizer
from data.module import TextDataModule
from model.rules import removed
from training.checkpoint_files import find_checkpoint, network_weights, read_checkpoint
from training.foreign import is_foreign

# Weights that one position encoding has and another has not.
POSITIONAL = ("position_embedding.weight", "attention.ssmax.scale")
# The groups that say, beside `position`, which function the weights are of, and the keys in them
# that only say how it is computed.
GROUPS, COMPUTES = ("model", "rope", "scaling"), ("backend", "fused_projection")


def continued_config(config: dict[str, Any], typed: set[str]) -> tuple[dict[str, Any], list[str]]:
    """`config` with the model of the run `config["init_from"]`, but for the keys `typed` today.

    Returns it with a line for each key that was typed and is another there. ValueError where that
    run's config is not plain data.
    """
    path = config["init_from"]
    theirs = _config_of(path)
    position = config["position"] if "position" in typed else theirs["position"]
    asked = {**config, "position": position}
    if is_foreign(path) and "data.tokenizer" not in typed:
        folder = _folder_of(path)
        # What is wrong with it is wrong with that model
        SubwordTokenizer.from_file(folder, _where(path))
        asked["data"] = {**config["data"], "tokenizer": str(folder.absolute())}
    for group in GROUPS:
        own = {name for name in theirs[group] if f"{group}.{name}" in typed or name in COMPUTES}
        if _is_todays(group, position, typed):
            own |= theirs[group].keys()
        kept = {name: value for name, value in theirs[group].items() if name not in own}
        asked[group] = {**config[group], **kept}
    if position == "nope":
        asked["model"] |= {"random_positions": config["model"]["random_positions"]}
    changed = [f"init_from={path}: {line}" for line in _changes(asked, theirs, typed)]
    return asked, changed + _set_train_length(asked, theirs, path)


def load_weights(net: nn.Module, path: str, data: TextDataModule) -> None:
    """Load the weights of the run or checkpoint `path` into `net`.

    Those of a position encoding that the other model has not are left out, or start anew:
    `position=nope` from a run with RoPE is DroPE (train with positions, drop them, train on).
    ValueError where the text's tokenizer or another weight differs.
    """
    tokenizer, weights = _foreign_weights(path) if is_foreign(path) else _own_weights(path)
    if tokenizer != data.tokenizer.state():
        raise ValueError(f"init_from={path}: its tokenizer is another; take that one's data= here")
    own = net.state_dict()
    for key in sorted(weights.keys() | own.keys()):
        theirs = tuple(weights[key].shape) if key in weights else "absent"
        ours = tuple(own[key].shape) if key in own else "absent"
        if key.endswith(POSITIONAL) and "absent" in (theirs, ours):
            say(f"init_from={path}: {key} is {theirs} there and {ours} here")
        elif theirs != ours:
            same = f"data.seq_len={theirs[0]}" if key in POSITIONAL else "the same model="
            raise ValueError(
                f"init_from={path}: {key} is {theirs} there and {ours} here; give {same}"
            )
    _check_head(net, weights, path)
    net.load_state_dict(own | {key: value for key, value in weights.items() if key in own})


def _check_head(net: Any, weights: Mapping[str, Tensor], path: str) -> None:
    """ValueError where the head is the embedding here, and a matrix of its own there."""
    head, embedding = weights.get("head.weight"), weights["embedding.weight"]
    if net.config.tied_head and head is not None and not head.equal(embedding):
        raise ValueError(
            f"init_from={path}: its head is not its embedding; give model.tied_head=false"
        )


def vocab_size_of(path: str) -> int:
    """How many tokens the model of the run or checkpoint `path` has."""
    if is_foreign(path):
        return hf.read(_folder_of(path), _where(path)).config.vocab_size
    found = find_checkpoint(path, key="init_from")
    return read_checkpoint(found, "init_from")["ropewalk"]["vocab_size"]


def _own_weights(path: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The state of the tokenizer, and that of the network, of a run."""
    checkpoint = read_checkpoint(find_checkpoint(path, key="init_from"), "init_from")
    return checkpoint["ropewalk"]["tokenizer"], network_weights(checkpoint)


def _foreign_weights(path: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The same of a model from elsewhere, in float32."""
    folder, where = _folder_of(path), _where(path)
    tokenizer = SubwordTokenizer.from_file(folder, where)
    return tokenizer.state(), hf.load(folder, "cpu", where=where).state_dict()


def _folder_of(path: str) -> Path:
    return hf.find(path, _where(path))


def _where(path: str) -> str:
    return f"init_from={path}"


def _config_of(path: str) -> dict[str, Any]:
    """The config of a model: plain data with its groups."""
    if is_foreign(path):
        return hf.read(_folder_of(path), _where(path)).config.groups()
    found = find_checkpoint(path, key="init_from")
    config = read_checkpoint(found, "init_from")["ropewalk"].get("config")
    problem = plain_problem(config)
    if not isinstance(config, dict):
        problem = "it is no mapping of keys"
    elif lacking := [group for group in GROUPS if not isinstance(config.get(group), dict)]:
        problem = problem or f"it has no group {lacking[0]}"
    if problem:
        raise ValueError(f"init_from={path}: the config in {found}: {problem}; take another run")
    return {"position": "rope", **removed(config)}


def _is_todays(group: str, position: str, typed: set[str]) -> bool:
    """Whether a group is today's as a whole: a scaling of its own, or one for no rotation."""
    return group == "scaling" and ("scaling.method" in typed or position != "rope")


def _changes(
    config: Mapping[str, Any], theirs: Mapping[str, Any], typed: set[str]
) -> Iterator[str]:
    """A line for each of the keys `typed` that is another in `theirs`."""
    for key, there in _leaves(theirs):
        here = dict(_leaves(config)).get(key)
        if key in typed and here != there:
            yield f"{key}={shown(here)} here, {shown(there)} there"


def _leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "position", config["position"]
    for group in GROUPS:
        for name, value in config[group].items():
            if name not in COMPUTES and not isinstance(value, dict):
                yield f"{group}.{name}", value


def _set_train_length(config: dict[str, Any], theirs: Mapping[str, Any], path: str) -> list[str]:
    """A scaling that is new here stretches what that run was trained at; a line says so."""
    scaling, before = config["scaling"], theirs["scaling"]
    length = before.get("train_length") or theirs.get("data", {}).get("seq_len")
    new = scaling["method"] not in ("none", before.get("method"))
    if not new or scaling["train_length"] is not None or length is None:
        return []
    config["scaling"] = scaling | {"train_length": length}
    return [f"init_from={path}: scaling.train_length={shown(length)}, as there"]
