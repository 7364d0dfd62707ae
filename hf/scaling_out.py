"""A scaling of ours as `rope_parameters` of Hugging Face's config.json.

Both compute the same frequencies from it (tests/hf/test_scaling_out.py has transformers' own
functions beside ours). The options of a scaling have the same names on both sides; ntk is a larger
theta there, and ntk-by-parts a yarn without temperature.
"""

import math
from collections.abc import Mapping
from typing import Any

from model import TransformerConfig
from model.frequencies import scaling_of

_TYPES = {"none": "default", "ntk": "default", "ntk-by-parts": "yarn"}  # the others: as ours
_KNOWN = (
    *("none", "linear", "ntk", "dynamic", "ntk-by-parts"),
    *("yarn", "longrope", "llama3", "proportional"),
)
_STRETCHED = ("linear", "yarn", "ntk-by-parts", "llama3")
_FROM_LENGTH = ("yarn", "ntk-by-parts", "llama3", "longrope")
_DEFAULTS: dict[str, dict[str, float]] = {  # what the file must say in any case
    "dynamic": {"factor": 1.0},
    "ntk-by-parts": {"attention_factor": 1.0},
    "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"partial_rotary_factor": 1.0},
}
NO_POSITIONS = {"rope_type": "proportional", "rope_theta": 10000.0, "partial_rotary_factor": 0.0}


def rope_parameters(
    config: TransformerConfig, scaling: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """What config.json says of the rotation of such a model; None where transformers has no word.

    `scaling`: the arguments of `set_scaling`, in range, with a `seq_len` where the factor follows
    the length; None: the config's own. dynamic takes its training length from the file's
    `max_position_embeddings` (`max_positions`).
    """
    if config.position != "rope":
        return None
    asked = dict(config.scaling.arguments() if scaling is None else scaling)
    method, seq_len = asked.pop("method"), asked.pop("seq_len", None)
    settings = {name: value for name, value in asked.items() if value is not None}
    found = _written(method, settings, seq_len, config)
    if found is None or config.rotary_dim == config.head_width:
        return found
    if method == "proportional":  # whose share has the name that the rotated part of a head has
        return None
    return {**found, "partial_rotary_factor": _share(config)}


def is_read_by(family: str, rope_type: str) -> bool:
    """Whether a family, a `model_type`, takes that type in transformers: Phi 3 knows few."""
    return family != "phi3" or rope_type in ("default", "longrope")


def max_positions(config: TransformerConfig, seq_len: int) -> int:
    """`max_position_embeddings` of a model trained at `seq_len` tokens, as its scaling reads it."""
    scaling = config.scaling
    if scaling.method == "dynamic":
        return scaling.train_length or seq_len
    if scaling.method in _FROM_LENGTH and scaling.train_length and scaling.factor:
        return max(seq_len, round(scaling.train_length * scaling.factor))
    return seq_len


def _written(
    method: str, settings: dict[str, Any], seq_len: int | None, config: TransformerConfig
) -> dict[str, Any] | None:
    """Without the rotated part of a head. `settings`: those that are set."""
    width, theta = config.rotary_dim, float(config.theta)
    options = {name: v for name, v in settings.items() if name not in ("train_length", "factor")}
    factor = _factor(settings, seq_len)
    if method not in _KNOWN:
        return None
    if method == "longrope" and (temperature := _temperature(settings, seq_len)) is None:
        return None
    if method in ("ntk", "dynamic") and width == 2:  # one pair turns alike with every theta
        method = "none"
    if method == "ntk":
        theta *= factor ** (width / (width - 2))
    found = {"rope_type": _TYPES.get(method, method), "rope_theta": theta}
    found |= _DEFAULTS.get(method, {}) | options
    if method in _STRETCHED or (method in ("dynamic", "proportional") and "factor" in settings):
        found["factor"] = factor
    if method in _FROM_LENGTH:
        found["original_max_position_embeddings"] = settings["train_length"]
    if method == "longrope":
        found |= {"factor": factor, "attention_factor": temperature}
    return found


def _temperature(settings: Mapping[str, Any], seq_len: int | None) -> float | None:
    """longrope's attention factor; None where ours follows the length, which theirs does not."""
    if seq_len is None and not {"factor", "attention_factor"} & settings.keys():
        return None
    return scaling_of("longrope", **settings).temperature(seq_len or settings["train_length"])


def _factor(settings: Mapping[str, Any], seq_len: int | None) -> float:
    """How far the frequencies are stretched: the factor, or the length over that of training."""
    if "factor" in settings:
        return float(settings["factor"])
    train_length = settings.get("train_length")
    return max(seq_len / train_length, 1.0) if seq_len and train_length else 1.0


def _share(config: TransformerConfig) -> float:
    """The share of a head that turns, such that int(share x head_dim) is the rotary width."""
    share = config.rotary_dim / config.head_width
    exact = int(share * config.head_width) == config.rotary_dim
    return share if exact else math.nextafter(share, 1)
