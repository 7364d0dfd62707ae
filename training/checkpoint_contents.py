"""What a checkpoint must hold before anybody uses it.

A digest says that a file is as it was written; it does not say what was written, or by whom.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from common.rules import Rule, at_least, integer, of, optional, text
from model import Transformer, TransformerConfig
from training.divergence import Diverged

MOST_NODES = 100_000  # of plain data; lists that share their parts could be endless


def problem(contents: object, *, resumed: bool) -> str | None:
    """What a checkpoint lacks or has of another type, by its key; None where all is well.

    `resumed`: whether training is to go on from it, which takes more than its weights.
    """
    if not isinstance(contents, dict) or not isinstance(contents.get("ropewalk"), dict):
        return "ropewalk: must be what train.py says of a run"
    for key, rule in (PARTS | RESUMED if resumed else PARTS).items():
        value = _at(contents, key)
        if not rule.holds(value):
            there = "missing" if value is None else f"a {type(value).__name__} that is not"
            return f"{key}: must be {rule.text}, and is {there}"
    return weight_problem(contents["state_dict"])


def weight_problem(weights: Mapping[str, Tensor]) -> str | None:
    """What is wrong with weights: kept in no file, larger than they claim, or not finite."""
    stored = {tensor.untyped_storage().data_ptr(): tensor for tensor in weights.values()}
    there = sum(tensor.untyped_storage().nbytes() for tensor in stored.values())
    # A tied head stands in the file once and here twice; more would be made of very little.
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > 2 * there:
        return "state_dict: its tensors are larger than what is stored of them"
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor):
            return f"state_dict: {name} holds values that are NaN or infinite"
    return None


def check_finite(contents: Mapping[str, Any]) -> None:
    """Diverged where weights, or moments of the optimizer, about to be saved are not finite.

    The loss would tell only a step later, when the checkpoint before is gone.
    """
    saved = {key: contents.get(key) for key in ("state_dict", "optimizer_states")}
    for name, tensor in _tensors(saved):
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor):
            raise Diverged(
                f"{name} holds values that are NaN or infinite at step "
                f"{contents.get('global_step')}: the run diverged, and this step is not saved; "
                "the checkpoints before it are as they were; try a lower optimizer.lr"
            )


def check_filled(config: TransformerConfig, weights: Mapping[str, Tensor], shown: str) -> None:
    """ValueError where the model of `config` is not the one that `weights` are of.

    Nothing is allocated, since a config may ask for more memory than there is. `shown`: the key
    and the path of the checkpoint.
    """
    layers = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    wrong = None
    if config.n_layers != len(layers):  # cheaper to say than a model of many layers is to build
        wrong = f"model.n_layers: its weights are of {len(layers)} layers, not {config.n_layers}"
    else:
        with torch.device("meta"):
            own = Transformer(config).state_dict()
        wrong = difference(weights, own, "state_dict")
        if not wrong and (extra := weights.keys() - own.keys()):
            wrong = f"state_dict.{min(extra)}: the model of its config has no such weights"
    if wrong:
        raise ValueError(f"{shown}: its weights are not of the model of its config: {wrong}")


def difference(given: object, own: object, name: str) -> str | None:
    """The first place where `given` is built otherwise than `own`, or None.

    Numbers may have other values, tensors too, if their shapes are the same; what `own` has None
    for may be anything plain.
    """
    if isinstance(own, Tensor):
        same = isinstance(given, Tensor) and given.shape == own.shape
        return None if same else f"{name}: must be a tensor of shape {tuple(own.shape)}"
    if isinstance(own, Mapping):
        if not isinstance(given, Mapping):
            return f"{name}: must be a dict"
        if lacking := [key for key in own if key not in given]:
            return f"{name}.{lacking[0]}: is missing"
        pairs = ((given[key], own[key], f"{name}.{key}") for key in own)
    elif isinstance(own, Sequence) and not isinstance(own, str):
        if not isinstance(given, Sequence) or len(given) != len(own):
            return f"{name}: must be a list of {len(own)}"
        pairs = ((given[i], part, f"{name}.{i}") for i, part in enumerate(own))
    else:
        return None if own is None or _same_kind(given, own) else f"{name}: {given!r:.40} is wrong"
    return next((line for pair in pairs if (line := difference(*pair))), None)


def _same_kind(given: object, own: object) -> bool:
    """Whether two plain values may stand for each other."""
    if isinstance(own, bool) or isinstance(given, bool):
        return isinstance(own, bool) and isinstance(given, bool)
    kinds = (int, float) if isinstance(own, float) else type(own)
    return isinstance(given, kinds)


# The parts, by key


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _tensors(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dicts and lists, by their path."""
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, (Mapping, list, tuple)):
        for key, part in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from _tensors(part, f"{name}.{key}" if name else str(key))


def _is_finite(tensor: Tensor) -> bool:
    """Without a copy: the extremes of a tensor with a NaN in it are NaN."""
    return all(math.isfinite(float(extreme)) for extreme in torch.aminmax(tensor))


def _is_plain(value: object) -> bool:
    """Whether it is made of dicts with text keys, lists and scalars, and of not too many."""
    nodes, left = [value], MOST_NODES
    while nodes and left > 0:
        node = nodes.pop()
        left -= 1
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                return False
            nodes += islice(node.values(), left)
            left -= len(node)
        elif isinstance(node, (list, tuple)):
            nodes += islice(node, left)
            left -= len(node)
        elif not isinstance(node, (str, int, float, type(None))):
            return False
    return not nodes


def _are_tensors(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        for name, tensor in value.items()
    )


def _has_texts(value: object, *keys: str) -> bool:
    """Whether it is a plain dict with these keys, whose values are texts."""
    plain = isinstance(value, dict) and _is_plain(value)
    return plain and all(isinstance(_at(value, key), str) for key in keys)


def _a(what: str, holds: Callable[[Any], bool]) -> Rule:
    return of(what, holds, None)


_VERSION = re.compile(r"\d+(\.\d+)+\S*")
PARTS = {
    "state_dict": _a("a dict of tensors", lambda v: bool(v) and _are_tensors(v)),
    "global_step": at_least(0, 0),
    "ropewalk.config": _a("a dict of plain data", lambda v: isinstance(v, dict) and _is_plain(v)),
    "ropewalk.config.data": _a("a dict", lambda v: isinstance(v, dict)),
    "ropewalk.config.data.seq_len": at_least(1, 256),
    "ropewalk.config.data.corpus": text("stdlib"),
    "ropewalk.config.data.path": optional(text("my.txt")),
    "ropewalk.vocab_size": integer(1, 2**24, 256),
    "ropewalk.tokenizer": _a(
        "a dict of texts with its name",
        lambda v: _has_texts(v, "name") and all(isinstance(one, str) for one in v.values()),
    ),
    "ropewalk.fingerprint": _a(
        "a dict with corpus and sha256", lambda v: _has_texts(v, "corpus", "sha256")
    ),
}
# What Lightning goes on from; `difference` looks into it when there is a run to compare it with.
RESUMED = {
    "pytorch-lightning_version": _a(
        "a version", lambda v: isinstance(v, str) and bool(_VERSION.fullmatch(v))
    ),
    "epoch": at_least(0, 0),
    "loops": _a("a dict", lambda v: isinstance(v, dict)),
    "callbacks": _a("a dict", lambda v: isinstance(v, dict)),
    "optimizer_states": _a("a list", lambda v: isinstance(v, list) and len(v) == 1),
    "lr_schedulers": _a("a list", lambda v: isinstance(v, list) and len(v) == 1),
}
