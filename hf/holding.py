"""Which family of Hugging Face's holds a model.

A family holds a model where its config.json, written and read back, is that model again. What
comes back otherwise is what the family has not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.rules import shown
from hf.config_out import WRITERS, write_config
from hf.families import FAMILIES
from hf.families.family import Family
from hf.scaling_out import max_positions, rope_parameters
from model import TransformerConfig
from model.layers import EMBEDDED

# What a family may have beyond the model: biases are zeros there, and a head a copy
_BEYOND = {
    **dict.fromkeys(("norm_bias", "qkv_bias", "out_bias", "mlp_bias", "head_bias"), (False, True)),
    "tied_head": (True, False),
}
_ALIKE = (
    *("vocab_size", "n_layers", "d_model", "n_heads", "mlp", "block", "norm", "norm_eps"),
    *("qk_norm", "attention_softcap", "logit_softcap", "ssmax", *_BEYOND),
)
# None where nothing rotates, of which `positions` tells
_OF_ROTATION = ("scaling", "fraction")


@dataclass(frozen=True)
class Held:
    """A model as a family has it.

    Attributes:
        family: whose names its tensors have.
        raw: its config.json.
        config: what `raw` says, with biases that the model may not have.
    """

    family: Family
    raw: dict[str, Any]
    config: TransformerConfig


def hold(config: TransformerConfig, name: str | None, where: str) -> Held:
    """The model in the first family that holds it, or in `name`.

    Raises ValueError, in which `where` stands before the colon, where there is none.
    """
    if config.train_length is None:
        raise ValueError(f"{where}: does not say data.seq_len, the length that it was trained at")
    lacking: dict[str, list[str]] = {}
    for family in [name] if name else WRITERS:
        found = _try(family, config, max_positions(config, config.train_length))
        if isinstance(found, Held):
            return found
        lacking[family] = found
    if name:
        raise ValueError(
            f"family={name}: has no {', '.join(lacking[name])}, as the model has; leave family "
            "out, for the first that holds it"
        )
    raise ValueError(f"{where}: {_of_all(lacking)}")


def _of_all(lacking: Mapping[str, list[str]]) -> str:
    """Why no family holds a model: what none has, or what the nearest ones have not.

    The nearest is named, then the nearest of those that have something that it has not.
    """
    nearest: list[str] = []
    open_ = set().union(*lacking.values())  # what those that were named have not
    while open_:
        better = [name for name in lacking if open_ - {*lacking[name]}]
        if not better:
            listed = [one for one in lacking[nearest[0]] if one in open_]
            return f"no family of Hugging Face's has {', '.join(listed)}"
        nearest.append(min(better, key=lambda name: len(lacking[name])))
        open_ &= {*lacking[nearest[-1]]}
    said = [f"{name} has no {', '.join(lacking[name])}" for name in nearest]
    return f"no family of Hugging Face's holds this model: {'; '.join(said)}"


def _try(name: str, config: TransformerConfig, max_length: int) -> Held | list[str]:
    """The model as the family has it, or what the family has not."""
    family = FAMILIES[name]
    try:
        raw = write_config(name, config, max_length)
        read = TransformerConfig(**family.read_config(raw))
    except ValueError as error:
        return [str(error).splitlines()[0].partition(": ")[0]]
    ours, theirs = _facts(config), _facts(read)
    missing = [fact.typed for field, fact in ours.items() if not _given(field, fact, theirs[field])]
    return missing or Held(family, {"architectures": [family.architecture], **raw}, read)


class _Fact(NamedTuple):
    typed: str  # what says so, as it is typed
    value: Any


def _given(field: str, ours: _Fact, theirs: _Fact) -> bool:
    """Whether the family's value is the model's, or does not matter."""
    values = ours.value, theirs.value
    if ours.value is None and field in _OF_ROTATION:
        return True
    if all(isinstance(value, float) for value in values):
        return math.isclose(*values, rel_tol=1e-9)
    return values[0] == values[1] or values == _BEYOND.get(field)


def _facts(config: TransformerConfig) -> dict[str, _Fact]:
    """What a model computes, by field. What counts in training alone is left out."""
    values = {name: getattr(config, name) for name in _ALIKE}
    values |= {"n_kv_heads": config.kv_heads, "mlp_hidden": config.mlp_width}
    values |= {"head_dim": config.head_width}
    values["attention_scale"] = config.attention_scale or config.head_width**-0.5
    values["embedding_scale"] = config.embedding_scale or 1.0
    values["logit_scale"] = config.logit_scale or 1.0
    facts = {name: _Fact(f"model.{name}={_typed(v)}", v) for name, v in values.items()}
    typed = f"model.window={shown(config.window)}"
    if config.pattern is not None:
        typed = f"model.pattern={shown(config.pattern)}"
    facts["windows"] = _Fact(typed, [layer.window for layer in config.layers])
    return facts | {"positions": _positions(config)} | _rotation(config)


def _positions(config: TransformerConfig) -> _Fact:
    """What each layer knows of positions, or what is added to the embedding."""
    if config.position in EMBEDDED:
        return _Fact(f"position={config.position}", (config.position, config.max_length))
    kinds = [layer.position for layer in config.layers]
    if not _turns(config):
        kinds = ["nope" if kind == "rope" else kind for kind in kinds]
    mixed = config.pattern is not None and len(set(kinds)) > 1
    typed = f"model.pattern={shown(config.pattern)}" if mixed else f"position={config.position}"
    return _Fact(typed, kinds)


def _rotation(config: TransformerConfig) -> dict[str, _Fact]:
    """How the layers rotate: as rope_parameters say it, which may be said in several ways here."""
    if not _turns(config):
        return dict.fromkeys((*_OF_ROTATION, "local_theta"), _Fact("", None))
    written, scaling = rope_parameters(config), config.scaling
    if written and scaling.method != "proportional":  # a fact of its own
        written.pop("partial_rotary_factor", None)
    typed = f"rope.theta={shown(config.theta)}"
    if scaling.method != "none":
        typed = f"scaling={scaling.method}"
    length = scaling.train_length if scaling.method == "dynamic" else None
    local = any(layer.window and layer.position == "rope" for layer in config.layers)
    theta = config.local_theta if local else None
    if theta == config.theta and scaling.method == "none":
        theta = None  # as the others
    return {
        "scaling": _Fact(typed, (written or scaling, length)),
        "fraction": _Fact(f"rope.fraction={shown(config.fraction)}", config.rotary_dim),
        "local_theta": _Fact(f"rope.local_theta={shown(theta)}", theta),
    }


def _turns(config: TransformerConfig) -> bool:
    """Whether any layer rotates, and by more than nothing."""
    share: Any = config.scaling.options.get("partial_rotary_factor", 1.0)
    still = config.scaling.method == "proportional" and int(share * config.rotary_dim // 2) == 0
    return not still and any(layer.position == "rope" for layer in config.layers)


def _typed(value: Any) -> str:
    return shown(value).lower() if isinstance(value, bool) else shown(value)
