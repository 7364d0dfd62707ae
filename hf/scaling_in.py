"""Rotary positions out of a config.json: theta, the share that rotates, and the scaling.

In the current form all stands in `rope_parameters`, or in one such dictionary for each type of
layer. In the previous one `rope_theta` stands beside `rope_scaling`, whose `type` was later called
`rope_type`. What a key means is what transformers 5 makes of it (`modeling_rope_utils.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from common.rules import shown
from hf.keys import POSITIVE, WHOLE, Keys
from model.config import ScalingConfig

LAYER_TYPES = ("full_attention", "sliding_attention")
YARN = (
    *("factor", "attention_factor", "beta_fast", "beta_slow"),
    *("mscale", "mscale_all_dim", "truncate"),
)
TYPES: dict[
    str, tuple[str, tuple[str, ...]]
] = {  # of transformers: our name, and the options that it reads
    "default": ("none", ()),
    "linear": ("linear", ("factor",)),
    "dynamic": ("dynamic", ("factor",)),
    "yarn": ("yarn", YARN),
    "longrope": ("longrope", ("factor", "attention_factor", "short_factor", "long_factor")),
    "llama3": ("llama3", ("factor", "low_freq_factor", "high_freq_factor")),
    "proportional": ("proportional", ("factor", "partial_rotary_factor")),
}
NEEDED: dict[str, tuple[str, ...]] = {  # options that have no default
    "linear": ("factor",),
    "dynamic": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
FROM_LENGTH = ("yarn", "longrope", "llama3")  # which know the length before they were stretched
COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned")
LENGTH = "original_max_position_embeddings"


def rope_fields(
    keys: Keys,
    head_dim: int,
    *,
    theta: float = 10000.0,
    share: float | None = None,
    theta_keys: Sequence[str] = ("rope_theta",),
    share_keys: Sequence[str] = ("partial_rotary_factor",),
    types: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """theta, local_theta, fraction and scaling: fields of `TransformerConfig`.

    `theta`, `share`: the family's, where the config says nothing; a `share` of None: the family
    rotates whole heads. `theta_keys`, `share_keys`: what it called them in the previous form, the
    first of which counts. `types`: types of scaling that it calls otherwise.
    Raises ValueError by name for what cannot be expressed.
    """
    theta = _first([keys.value(key) for key in theta_keys], theta)
    outer_share = _first([keys.value(key) for key in share_keys], share)
    rope, scaling = keys.mapping("rope_parameters"), keys.mapping("rope_scaling")
    given = scaling or rope
    own = {key: given[key] for key in LAYER_TYPES if key in given}
    if own:
        return layered_fields(keys, head_dim, own, (theta, theta), outer_share, share)
    given["rope_type"] = _type(given, types)
    read = _read(keys, given, head_dim, theta, outer_share, whole=share is None)
    return {**read, "local_theta": None}


def layered_fields(
    keys: Keys,
    head_dim: int,
    of_layers: Mapping[str, Any],
    thetas: tuple[float, float],
    outer_share: float | None = None,
    share: float | None = None,
) -> dict[str, Any]:
    """`rope_fields` of parameters for each type of layer; `thetas`: of full ones and windows."""
    read = {}
    for kind, theta in zip(LAYER_TYPES, thetas, strict=True):
        given = of_layers.get(kind)
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            raise ValueError(f"rope_parameters.{kind}={shown(given)}: must be a dictionary")
        read[kind] = _read(keys, given, head_dim, theta, outer_share, whole=share is None)
    full, local = read["full_attention"], read["sliding_attention"]
    if full == local:
        return {**full, "local_theta": None}
    if local["scaling"].method != "none":
        raise ValueError(
            "rope_parameters.sliding_attention: scaled in another way than full_attention, which "
            "layers with a window cannot be here; what can be read is rope_type=default"
        )
    if full["fraction"] != local["fraction"]:
        raise ValueError(
            "rope_parameters.sliding_attention: rotates another share of a head than "
            "full_attention, which cannot be expressed here"
        )
    return {**full, "local_theta": local["theta"]}


def _read(
    keys: Keys,
    given: Mapping[str, Any],
    head_dim: int,
    theta: float,
    share: float | None,
    *,
    whole: bool,
) -> dict[str, Any]:
    """theta, fraction and scaling of one dictionary. `whole`: the family rotates whole heads."""
    given, kind = {key: value for key, value in given.items() if value is not None}, _type(given)
    share = given.get("partial_rotary_factor", share)
    if kind == "proportional":  # which rotates whole heads, some pairs by nothing
        given["partial_rotary_factor"] = 1.0 if share is None else share  # 0: no positions
        dim = head_dim
    else:
        share = _number("partial_rotary_factor", 1.0 if share is None else share)
        if share > 1 or (whole and share != 1):
            raise ValueError(
                f"partial_rotary_factor={shown(share)}: must be 1: this family rotates whole heads"
                if whole
                else f"partial_rotary_factor={shown(share)}: must be at most 1"
            )
        dim = int(head_dim * share)
    return {
        "theta": _number("rope_theta", given.get("rope_theta", theta)),
        "fraction": dim / head_dim,
        "scaling": _scaling(keys, kind, given),
    }


def _scaling(keys: Keys, kind: str, given: dict[str, Any]) -> ScalingConfig:
    method, known = TYPES[kind]
    outer_length = keys.value(LENGTH)  # which goes before the one inside
    unknown = sorted(given.keys() - {*known, *COMMON, LENGTH})
    for key in unknown:
        if given[key] not in (False, 1, 1.0):  # what a factor or a switch that is off says
            raise ValueError(f"{key}={shown(given[key])}: rope_type={kind} does not use it")
    for key in NEEDED.get(kind, ()):
        if key not in given:
            raise ValueError(f"{key}=null: rope_type={kind} needs it")
    options = {key: given[key] for key in known if key in given}
    factor = options.pop("factor", None)
    longest = keys.whole("max_position_embeddings")
    length = None
    if kind in FROM_LENGTH:
        length = _first([outer_length, given.get(LENGTH)], longest)
        if not WHOLE.holds(length):
            raise ValueError(f"{LENGTH}={shown(length)}: must be {WHOLE.text}")
        factor = longest / length if factor is None else factor
        if kind == "longrope" and POSITIVE.holds(factor):  # which is 1 below that
            factor = max(factor, 1.0)
    elif kind == "dynamic":
        length = longest
    return ScalingConfig(method, factor, length, _with_effect(kind, options))


def _with_effect(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that transformers reads, with its rule on which of two goes before the other."""
    if kind != "yarn":
        return options
    both = options.get("mscale") and options.get("mscale_all_dim")
    unused = [] if both and "attention_factor" not in options else ["mscale", "mscale_all_dim"]
    unused += [key for key in ("beta_fast", "beta_slow") if not options.get(key)]
    return {key: value for key, value in options.items() if key not in unused}


def _number(key: str, value: Any) -> float:
    if not POSITIVE.holds(value):
        raise ValueError(f"{key}={shown(value)}: must be {POSITIVE.text}")
    return float(value)


def _type(given: Mapping[str, Any], others: Mapping[str, str] | None = None) -> str:
    """The type of scaling; ValueError for one that is not known. `others`: other names of some."""
    kind = _first([given.get("rope_type"), given.get("type")], "default")
    kind = others.get(kind, kind) if others and isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(
            f"rope_type={shown(kind)}: is not known here; what can be read is {', '.join(TYPES)}"
        )
    return kind


def _first(values: Sequence[Any], default: Any) -> Any:
    """The first of these that is not null."""
    return next((value for value in values if value is not None), default)
